"""Time limits that cost a dictionary entry: one sweep ends whatever waits too long for its client."""

import asyncio
from typing import Any, Final

# How often the sweep looks, in seconds: limits are kept to within this.
SWEEP_S: Final = 0.5


class Patience:
    """Bounds how long requests wait for their clients.

    `asyncio.timeout` arms and disarms a timer, 10 us each time; here a request only notes until
    when it waits, and whoever is overdue is cancelled by the next sweep.
    """

    def __init__(self) -> None:
        self._until: dict[asyncio.Task[Any], float] = {}
        self._ended: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sweep, on the running event loop."""
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Stop sweeping."""
        if self._sweeper:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    def begin(self, timeout_s: float) -> None:
        """Note that the current task waits for its client, from now on for at most `timeout_s`."""
        task = asyncio.current_task()
        assert task is not None
        self._until[task] = asyncio.get_running_loop().time() + timeout_s

    def end(self) -> bool:
        """Note that it waits no longer; return whether it was ended for being overdue.

        Then its cancellation is taken back, and the task goes on.
        """
        task = asyncio.current_task()
        assert task is not None
        self._until.pop(task, None)
        if task not in self._ended:
            return False
        self._ended.remove(task)
        task.uncancel()
        return True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = asyncio.get_running_loop().time()
            for task in [task for task, until in self._until.items() if until < now]:
                del self._until[task]
                self._ended.add(task)
                task.cancel()
