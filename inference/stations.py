"""Workers as the dispatcher sees them: what each runs, and which of them is given the next batch."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from inference.queueing import Priority, Row, RowQueue, Runner

# So long before a batch's expected end, in seconds, the next one is sent behind it: a round trip of result and next
# batch through a busy gateway takes 0.3 to 1.5 ms, in which the worker would idle. The loop's timers count whole milliseconds.
_LEAD_S: Final = 0.002
# Of shorter batches the rows that come meanwhile gain more than the worker's wait costs.
_SHORTEST_S: Final = 0.005


@dataclass(slots=True, eq=False)
class Batch:
    """Rows that were sent together."""

    queue: RowQueue
    tag: int
    provider: str
    rows: list[Row]
    size: int  # Rows of the model's batch: of calls with tensors, all of their rows.
    expected_s: float  # How long it will run, as `queueing.Sent` says.


@dataclass(slots=True, eq=False)
class Station:
    """A worker as the dispatcher sees it."""

    runner: Runner
    serves: dict[str, str] = field(default_factory=dict)  # Version key -> provider.
    running: Batch | None = None
    # Sent when the running one is nearly done, so that the worker need not wait for the gateway in between. Not sooner:
    # the later it is chosen, the more rows there are to choose from.
    ahead: Batch | None = None
    is_nearly_done: bool = False
    loading: int = 0  # While it loads a model, batches would wait for the load.
    batches: int = 0
    timer: asyncio.TimerHandle | None = None  # Until the running batch is nearly done, then until it counts as hung.

    def has_room(self, *, ahead: bool) -> bool:
        """Whether a batch may be sent: to run at once, or, if `ahead`, behind one that is nearly done."""
        return self.running is None or (ahead and self.is_nearly_done and self.ahead is None)


class Stations:
    """All workers that take batches."""

    def __init__(self, *, run_timeout_s: float, has_room: Callable[[], None]) -> None:
        """There is none yet.

        Args:
            run_timeout_s: Longest a batch may run before its worker is killed.
            has_room: Called when a worker that is nearly done can be sent its next batch.
        """
        self._run_timeout_s = run_timeout_s
        self._has_room = has_room
        self._loop = asyncio.get_running_loop()
        self._stations: list[Station] = []

    def __iter__(self) -> Iterator[Station]:
        """Return every worker, in the order of their coming."""
        return iter(self._stations)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._stations)

    def add(self, station: Station) -> None:
        """Give a worker batches from now on."""
        self._stations.append(station)

    def remove(self, station: Station) -> tuple[Batch | None, Batch | None]:
        """Forget a worker; return the batch that it ran and the one behind that, if there were any."""
        if station in self._stations:
            self._stations.remove(station)
        batches = station.running, station.ahead
        station.ahead = None
        self._begin(station, None)
        return batches

    def have_room(self) -> bool:
        """Whether any worker could be sent a batch."""
        return any(station.has_room(ahead=True) for station in self._stations)

    def runs(self, key: str) -> bool:
        """Whether a batch of this version was sent to any, and is not done."""
        batches = (batch for station in self._stations for batch in (station.running, station.ahead))
        return any(batch is not None and batch.queue.key == key for batch in batches)

    def find(self, queue: RowQueue) -> Station | None:
        """Return a worker for a batch of this queue: a free one, else one that nearly is.

        A batch job's rows go to free ones alone: a live call may come before the running batch ends.
        """
        found = None
        for station in self._stations:
            if not station.loading and queue.key in station.serves and station.has_room(ahead=queue.priority is Priority.LIVE):
                if station.running is None:
                    return station
                found = found or station
        return found

    def sent(self, station: Station, batch: Batch) -> None:
        """Note that a batch was sent to a worker."""
        if station.running is None:
            self._begin(station, batch)
        else:
            station.ahead = batch

    def done(self, station: Station) -> None:
        """Note that a worker's batch is done, and the one behind it begins."""
        behind, station.ahead = station.ahead, None
        self._begin(station, behind)
        station.batches += 1

    def _begin(self, station: Station, batch: Batch | None) -> None:
        """Note which batch a worker runs from now on, if any, and watch how long that takes."""
        station.running, station.is_nearly_done = batch, False
        if station.timer is not None:
            station.timer.cancel()
            station.timer = None
        if batch is None:
            return
        if batch.expected_s < _SHORTEST_S:
            station.timer = self._loop.call_later(self._run_timeout_s, station.runner.kill)
        else:
            station.timer = self._loop.call_later(batch.expected_s - _LEAD_S, self._look_ahead, station)

    def _look_ahead(self, station: Station) -> None:
        station.timer = self._loop.call_later(self._run_timeout_s, station.runner.kill)
        station.is_nearly_done = True
        self._has_room()
