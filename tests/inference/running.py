"""What the engine's tests share: an engine that leaves nothing behind, rows, and calls."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.artifacts import Bundle
from inference.engine import Engine, Inferred


def ids(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Engine]:
    """Run an engine with one worker, unless told otherwise, for as long as the block; check that no process is left."""
    engine = Engine(**({"workers": 1} | settings))
    await engine.start()
    pids = engine.stats().pids
    try:
        yield engine
    finally:
        pids += engine.stats().pids
        await engine.stop(drain_s=5)
        assert not [pid for pid in pids if is_alive(pid)]


async def infer(engine: Engine, bundle: Bundle, *rows: npt.NDArray[np.int64], tenant: str = "a", within_s: float = 20) -> Inferred:
    deadline = asyncio.get_running_loop().time() + within_s
    return await engine.infer(bundle, rows, tenant=tenant, deadline=deadline)


def begin(
    engine: Engine, bundle: Bundle, *rows: npt.NDArray[np.int64], tenant: str = "a", within_s: float = 20
) -> "asyncio.Task[Inferred]":
    """Call without waiting for the answer."""
    return asyncio.create_task(infer(engine, bundle, *rows, tenant=tenant, within_s=within_s))


async def until(condition: Callable[[], bool], *, within_s: float = 10) -> None:
    """Wait for something that happens by itself, and fail if it does not."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 (what is waited for, such as a process's end, sets no event)
            await asyncio.sleep(0.005)


def answer(inferred: Inferred) -> list[float]:
    """The answers of a call to one of the models that sum: thousandths."""
    return [round(1000 * value) for value in inferred.outputs["probability"].ravel().tolist()]


def is_alive(pid: int) -> bool:
    """Whether a process exists; a zombie does, so that one which nobody collected is found too."""
    return Path(f"/proc/{pid}").exists()


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used: a busy one's grow."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
