"""How many rows may wait: in all, of one tenant, of batch jobs, and of one version."""

from collections.abc import Hashable

from inference.errors import QueueFull
from inference.queueing import Call, Priority, RowQueue


class Room:
    """Counts the rows that wait, by weight (`queueing.Row`)."""

    def __init__(self, *, max_rows: int) -> None:
        """Count from none.

        Args:
            max_rows: Most rows that wait, of all versions together; one tenant may take half, batch jobs together as well.
        """
        self.waiting_rows = 0
        # For `Retry-After`; kept by the dispatcher.
        self.row_s = 0.0  # Seconds that a row takes, from recent batches.
        self.workers = 0
        self._max_rows = max_rows
        self._max_share = max(1, max_rows // 2)
        self._tenant_rows: dict[Hashable, int] = {}  # Without those that have none.
        self._batch_rows = 0  # Of `Priority.BATCH`.

    def check(self, tenant: Hashable, rows: int, queue: RowQueue) -> None:
        """Refuse rows for which there is no room.

        Args:
            tenant: Whose they are.
            rows: How many come.
            queue: Where they would wait.

        Raises:
            QueueFull: naming the limit that is met.
        """
        # Turns are fair only to those who get in: nobody may take more than half of the room.
        of_tenant = self._tenant_rows.get(tenant, 0)
        waiting, most = self.waiting_rows, self._max_rows
        if of_tenant + rows > self._max_share:
            waiting, most = of_tenant, self._max_share
        elif queue.limits.max_queue_rows is not None and queue.waiting_rows + rows > queue.limits.max_queue_rows:
            waiting, most = queue.waiting_rows, queue.limits.max_queue_rows
        elif queue.priority and self._batch_rows + rows > self._max_share:
            waiting, most = self._batch_rows, self._max_share
        elif waiting + rows <= most:
            return
        raise QueueFull(waiting_rows=waiting, max_queue_rows=most, retry_after_s=self.waiting_rows * self.row_s / max(1, self.workers))

    def count(self, call: Call, rows: int) -> None:
        """Count rows that begin or, if negative, end to wait."""
        queue = call.queue
        self.waiting_rows += rows
        queue.waiting_rows += rows
        if queue.priority is Priority.BATCH:
            self._batch_rows += rows
        of_tenant = self._tenant_rows.get(call.tenant, 0) + rows
        if of_tenant:
            self._tenant_rows[call.tenant] = of_tenant
        else:
            self._tenant_rows.pop(call.tenant, None)
