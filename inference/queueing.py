"""The rows that wait for one version: fair between tenants, and at hand by length."""

import asyncio
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.batching import BatchLimits, StepCosts, next_batch


@dataclass(frozen=True, slots=True)
class Inferred:
    """A call's answer."""

    outputs: dict[str, npt.NDArray[Any]]  # First axis = rows of this call, in order.
    queue_us: int  # From `infer` to the answer, less the run: waiting and the way to the worker and back.
    infer_us: int  # How long the call's batch ran; of several batches, the longest.
    batch_rows: int  # Rows of that batch, other callers' included.
    provider: str  # "cpu" or "cuda", as the session itself reports.


@dataclass(slots=True, eq=False)
class Call:
    """One `infer` that is not answered yet."""

    output: str  # The name its answer goes by.
    tenant: Hashable
    deadline: float  # Seconds of the loop's clock.
    queued_at: float  # Seconds of `perf_counter`: uvloop's clock counts whole milliseconds.
    future: "asyncio.Future[Inferred]"
    queue: "RowQueue"
    unanswered: int
    rows: "list[Row]" = field(default_factory=list)
    infer_us: int = 0
    batch_rows: int = 0
    started: bool = False


@dataclass(slots=True, eq=False)
class Row:
    """One row of a call, in a queue or in a batch."""

    call: Call
    ids: npt.NDArray[np.int64]
    length: int
    waiting: bool = True
    alone: bool = False  # Its batch failed, so it runs in one of its own.
    lost_workers: int = 0
    answer: npt.NDArray[Any] | None = None


class RowQueue:
    """The rows that wait for one version, in two orders: by turn of their tenants, and by length."""

    def __init__(self, key: str, *, number: int, costs: StepCosts) -> None:
        """Open an empty queue.

        Args:
            key: The name callers know the version by.
            number: The one workers know it by.
            costs: What its time steps cost.
        """
        self.key = key
        self.number = number
        self.has_turn = False  # Kept by the dispatcher: whether the queue is in the round of versions.
        self._costs = costs
        # Ascending, kept beside each other: bisect runs in C on plain integers.
        self._lengths: list[int] = []
        self._rows: list[Row] = []
        self._tenants: dict[Hashable, deque[Row]] = {}
        self._turns: deque[Hashable] = deque()
        self._alone: deque[Row] = deque()

    def __len__(self) -> int:
        """Return the number of waiting rows."""
        return len(self._rows) + len(self._alone)

    def add(self, row: Row) -> None:
        """Queue a row behind its tenant's others."""
        at = bisect_right(self._lengths, row.length)
        self._lengths.insert(at, row.length)
        self._rows.insert(at, row)
        tenant = row.call.tenant
        queued = self._tenants.get(tenant)
        if queued is None:
            queued = self._tenants[tenant] = deque()
            self._turns.append(tenant)
        queued.append(row)

    def add_alone(self, row: Row) -> None:
        """Queue a row before all others, to run in a batch of its own."""
        row.waiting = row.alone = True
        self._alone.appendleft(row)

    def discard(self, row: Row) -> None:
        """Take a row out, if it waits here."""
        if not row.waiting:
            return
        row.waiting = False
        if row.alone:
            self._alone.remove(row)
        else:
            self._remove(self._position(row))

    def take(self, limits: BatchLimits) -> list[Row]:
        """Take the rows of the next batch: the oldest row of the tenant whose turn it is, and its like in length."""
        if self._alone:
            row = self._alone.popleft()
            row.waiting = False
            return [row]
        opener = self._position(self._next_opener())
        chosen = next_batch(self._lengths, opener, limits=limits, costs=self._costs)
        batch = self._rows[chosen]
        for row in batch:
            row.waiting = False
        self._remove(chosen)
        return batch

    def _next_opener(self) -> Row:
        """Return the oldest waiting row of the next tenant; a tenant without rows drops out of the round."""
        while True:
            tenant = self._turns.popleft()
            queued = self._tenants[tenant]
            # Rows that left in other tenants' batches, or were cancelled, are cleared away only here.
            while queued and (queued[0].alone or not queued[0].waiting):
                queued.popleft()
            if queued:
                self._turns.append(tenant)
                return queued[0]
            del self._tenants[tenant]

    def _position(self, row: Row) -> int:
        start = bisect_left(self._lengths, row.length)
        return self._rows.index(row, start)

    def _remove(self, at: int | slice) -> None:
        del self._lengths[at]
        del self._rows[at]
        if not self._rows:  # An idle queue keeps no row alive that has long left it.
            self._tenants.clear()
            self._turns.clear()
