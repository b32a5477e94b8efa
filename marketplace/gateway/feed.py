"""Follow the change feed: what other processes committed is dropped from this one's snapshot."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from marketplace.errors import ControlDataStale
from marketplace.gateway.reader import Reader
from marketplace.gateway.snapshot import Snapshot
from marketplace.models import ControlChange

POLL_INTERVAL_S: Final = 0.25
# On PostgreSQL a transaction that took its id early may commit late: each poll also looks at
# the changes of the last seconds again. Dropping an entry twice is harmless.
_LOOK_BACK: Final = timedelta(seconds=30)


class ChangeFeed:
    """Polls the feed every 250 ms in a thread of its own, and applies it on the event loop."""

    def __init__(self, snapshot: Snapshot, *, organization_changed: Callable[[str], None]) -> None:
        """Follow nothing yet; `organization_changed` is told the id, in hexadecimal, of each one that changed."""
        self._snapshot = snapshot
        self._organization_changed = organization_changed
        self._reader = Reader(threads=1)  # Its own thread: a slow load must not delay a revocation.
        self._seen = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin at the feed's present end: nothing is cached yet.

        Raises:
            ControlDataStale: the database is not there.
        """
        started = time.monotonic()
        self._seen = await self._reader.run(_newest)
        self._snapshot.mark_fresh(at=started)
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop polling."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._reader.close()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            started = time.monotonic()
            try:
                self._seen, changes = await self._reader.run(_read_changes, self._seen)
            except ControlDataStale:  # Logged. The snapshot goes stale, and the gateway refuses.
                continue
            for subject, reference in changes:
                self._apply(subject, reference)
            self._snapshot.mark_fresh(at=started)

    def _apply(self, subject: str, reference: str) -> None:
        if subject == ControlChange.Subject.KEY:
            self._snapshot.callers.forget(reference)
        elif subject == ControlChange.Subject.ORGANIZATION:
            self._snapshot.callers.forget_where(lambda caller: caller.organization_id.hex == reference)
            self._organization_changed(reference)
        else:
            self._snapshot.models.forget(reference)


def _newest() -> int:
    return ControlChange.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def _read_changes(after: int) -> tuple[int, list[tuple[str, str]]]:
    """Return the newest id, and the changes after `after` or of the last seconds. Blocks on I/O."""
    newest = _newest()
    if connection.vendor == "sqlite":  # One writer at a time: ids commit in order.
        changes = ControlChange.objects.filter(pk__gt=after) if newest > after else ControlChange.objects.none()
    else:
        changes = ControlChange.objects.filter(Q(pk__gt=after) | Q(created_at__gt=timezone.now() - _LOOK_BACK))
    return max(newest, after), list(changes.values_list("subject", "reference"))
