"""What the dispatcher's tests share: runners that only note what they are given."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.batching import BatchLimits
from inference.dispatch import Dispatcher
from inference.queueing import Call, Priority
from inference.stations import Station
from tests.inference.running import ids

FLAT = {1: 100.0, 8: 100.0}


class Runner:
    """Notes batches; whoever tests answers them."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.batches: list[list[list[int]]] = []
        self.versions: list[int] = []
        self._dispatcher = dispatcher
        self.station = Station(self, serves={"v": "cpu", "w": "cpu"})
        dispatcher.add_station(self.station)

    def run(self, version: int, rows: Sequence[npt.NDArray[np.int64]]) -> int:
        """Note a batch; its tag is its number."""
        self.versions.append(version)
        self.batches.append([row.tolist() for row in rows])
        return len(self.batches)

    def kill(self) -> None:
        """Die, as a process would."""
        self._dispatcher.remove_station(self.station)

    def answer(self, *, tag: int | None = None, rows: int | None = None) -> None:
        """Answer the running batch with each row's sum, or with another number of rows."""
        sums = np.array([[sum(row)] for row in self.batches[-1]], np.float32)
        output = sums if rows is None else np.zeros((rows, 1), np.float32)
        self._dispatcher.receive_result(self.station, tag or len(self.batches), output, ran_us=10)


def dispatching(scenario: Callable[[Dispatcher], Coroutine[Any, Any, None]], **limits: int) -> None:
    async def run() -> None:
        dispatcher = Dispatcher(limits=BatchLimits(**limits), max_queue_rows=100, run_timeout_s=5)
        dispatcher.open_version("v", number=1, step_costs=FLAT)
        dispatcher.open_version("w", number=2, step_costs=FLAT)
        await scenario(dispatcher)

    asyncio.run(run())


def submit(
    dispatcher: Dispatcher,
    *rows: list[int],
    key: str = "v",
    tenant: str = "a",
    limits: BatchLimits | None = None,
    priority: Priority = Priority.LIVE,
) -> Call:
    deadline = asyncio.get_running_loop().time() + 5
    wanted = [ids(*row) for row in rows]
    return dispatcher.submit(key, wanted, output="out", tenant=tenant, deadline=deadline, limits=limits, priority=priority)


async def turn() -> None:
    """Let the loop dispatch."""
    await asyncio.sleep(0)
