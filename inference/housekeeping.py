"""What is loaded, and what goes when memory is short or nobody calls; and whether the workers are alive."""

import asyncio
import logging
from time import perf_counter
from typing import Final

from inference.artifacts import Bundle
from inference.dispatch import Dispatcher
from inference.fleet import Fleet

logger = logging.getLogger(__name__)

# How often idle versions and workers are looked at, in seconds.
_ROUND_S: Final = 15.0
# A worker without work answers within a millisecond; a loaded machine takes its time.
_PING_TIMEOUT_S: Final = 10.0
# A loaded model takes some more than its file, before it was measured.
_GUESS: Final = 1.2


class Housekeeper:
    """Keeps the loaded versions within their memory. One that has calls never goes."""

    def __init__(self, fleet: Fleet, dispatcher: Dispatcher, *, memory_bytes: int | None, idle_s: float | None) -> None:
        """Do nothing yet.

        Args:
            fleet: Who loads and unloads.
            dispatcher: Who knows which versions have calls.
            memory_bytes: Most that all loaded versions together may take of each worker; None for no bound.
            idle_s: A version that nobody called for so long is unloaded; None for never.
        """
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._memory_bytes = memory_bytes
        self._idle_s = idle_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look around."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def has_room(self, bundle: Bundle) -> bool:
        """Whether a version could be loaded without another being evicted."""
        return self._memory_bytes is None or self._used_bytes() + self._need_of(bundle) <= self._memory_bytes

    async def load(self, bundle: Bundle) -> None:
        """Load a version, and make room for it: those go that were not called for longest.

        A version that alone is larger than the bound is served all the same, by itself.

        Raises:
            ModelLoadFailed: as `Fleet.load`.
        """
        await self._make_room(self._need_of(bundle), keep=bundle.key)
        await self._fleet.load(bundle)
        await self._make_room(0, keep=bundle.key)  # Now that it is measured.

    async def evict_idle(self) -> None:
        """Unload the versions that nobody called for `idle_s`."""
        if self._idle_s is None:
            return
        now = perf_counter()
        for key in list(self._fleet.served):
            if now - self._dispatcher.figures[key].used_at > self._idle_s and not self._dispatcher.is_busy(key):
                await self._evict(key, why="nobody called it")

    async def _make_room(self, need_bytes: int, *, keep: str) -> None:
        if self._memory_bytes is None:
            return
        figures = self._dispatcher.figures
        for key in sorted(self._fleet.served, key=lambda key: figures[key].used_at):
            if self._used_bytes() + need_bytes <= self._memory_bytes:
                return
            if key != keep and not self._dispatcher.is_busy(key):
                await self._evict(key, why="others need its memory")

    async def _evict(self, key: str, *, why: str) -> None:
        version = self._fleet.served.get(key)
        if version is None:
            return
        figures = self._dispatcher.figures[key]
        figures.evictions += 1
        logger.info("unloading %s (%.0f MB): %s", version.bundle.digest[:12], figures.memory_bytes / 1e6, why)
        await self._fleet.unload(version.bundle)

    def _used_bytes(self) -> int:
        return sum(self._dispatcher.figures[key].memory_bytes for key in self._fleet.served)

    def _need_of(self, bundle: Bundle) -> int:
        return self._dispatcher.figures[bundle.key].memory_bytes or int(bundle.size_bytes * _GUESS)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_ROUND_S)
            await self.evict_idle()
            await self._fleet.check_workers(timeout_s=_PING_TIMEOUT_S)
