"""The engine on a real Ray cluster, started for these tests on this machine: the same answers, and none lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from inference.engine import Engine
from inference.errors import ModelFailed
from inference.pool import WorkerSettings
from tests.inference.models import POISON, failing_model, mean_model, slow_model, write_bundle
from tests.inference.running import answer, begin, cpu_s, ids, infer, is_alive, until

ray = pytest.importorskip("ray", reason="the extra ray is not installed")
# Ray's own code warns of its own deprecations, and leaves files to the garbage collector.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow, pytest.mark.timeout(400)]
PATIENT = WorkerSettings(start_timeout_s=180, load_timeout_s=120)
BUSY = 5  # About 0.2 s of `slow_model`.


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of one node."""
    from inference import ray_pool

    ray_pool.connect("local", cores=4)
    yield
    ray_pool.disconnect()


def read(pid: int, name: str) -> bytes:
    """Return what the kernel tells of a process."""
    return Path(f"/proc/{pid}/{name}").read_bytes()


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def parent_of(pid: int) -> int:
    return int(read(pid, "stat").rpartition(b")")[2].split()[1])


@asynccontextmanager
async def running_on_ray(workers: int = 1) -> AsyncIterator[Engine]:
    """Run an engine whose workers are Ray's; afterwards none of their processes is left."""
    from inference.ray_pool import RayWorker

    engine = Engine(workers=workers, settings=PATIENT, start_worker=RayWorker)
    await engine.start()
    try:
        await until(lambda: all(engine.stats().pids))
        pids = engine.stats().pids
        yield engine
        pids += engine.stats().pids
    finally:
        await engine.stop(drain_s=20)
    await until(lambda: not [pid for pid in pids if is_alive(pid)], within_s=30)


def test_the_same_calls_have_the_same_answers_as_beside_us(cluster: None, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, mean_model())
    chance = np.random.default_rng(7)
    rows = [ids(*chance.integers(1, 900, size=chance.integers(1, 60))) for _ in range(200)]

    async def ask(engine: Engine) -> list[list[float]]:
        await engine.load(bundle)
        inferred = await asyncio.gather(*(begin(engine, bundle, row, within_s=100) for row in rows))
        assert {one.provider for one in inferred} == {"cpu"}
        assert any(one.batch_rows > 1 for one in inferred)
        return [answer(one) for one in inferred]

    async def scenario() -> None:
        beside = Engine(workers=1, settings=PATIENT)
        await beside.start()
        expected = await ask(beside)
        sandbox = beside.stats().sandbox
        await beside.stop(drain_s=5)
        async with running_on_ray() as engine:
            assert await ask(engine) == expected
            assert engine.stats().sandbox == sandbox  # What a model can reach is the same, too.

    asyncio.run(scenario())


def test_the_row_that_the_model_fails_on_fails_alone(cluster: None, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, failing_model())

    async def scenario() -> None:
        async with running_on_ray() as engine:
            await engine.load(bundle)
            calls = [begin(engine, bundle, ids(2, 3)), begin(engine, bundle, ids(POISON)), begin(engine, bundle, ids(4, 4))]
            first, second, third = await asyncio.gather(*calls, return_exceptions=True)
            assert (answer(first), answer(third)) == ([5], [8])
            assert isinstance(second, ModelFailed)
            assert engine.stats().restarts == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("victim", ["actor", "process"])
def test_an_actor_killed_in_the_middle_of_a_batch_loses_nothing(cluster: None, tmp_path: Path, victim: str) -> None:
    bundle = write_bundle(tmp_path, slow_model())

    async def scenario() -> None:
        async with running_on_ray() as engine:
            await engine.load(bundle)
            (pid,) = engine.stats().pids
            calls = [begin(engine, bundle, ids(BUSY, number), within_s=200) for number in range(1, 7)]
            used = cpu_s(pid)
            await until(lambda: cpu_s(pid) > used + 0.05)
            parent = parent_of(pid)
            os.kill(parent if victim == "actor" else pid, signal.SIGKILL)

            assert [answer(inferred) for inferred in await asyncio.gather(*calls)] == [[BUSY + number] for number in range(1, 7)]
            stats = engine.stats()
            assert (stats.restarts, stats.retried_rows > 0) == (1, True)
            assert stats.pids != (pid,)
            await until(lambda: not is_alive(pid), within_s=30)  # It does not outlive its actor.

    asyncio.run(scenario())


def test_the_model_runs_in_a_process_of_its_own_and_not_in_the_actor(cluster: None, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, mean_model())

    async def scenario() -> None:
        async with running_on_ray() as engine:
            await infer(engine, bundle, ids(1, 2), within_s=100)
            (pid,) = engine.stats().pids
            assert b"inference.worker" in read(pid, "cmdline")
            parent = parent_of(pid)
            assert b"onnxruntime" not in read(parent, "maps")  # Nothing of a model is in the actor.
            # Its ends: the three standard ones and its socket, none of Ray's.
            assert open_files(pid) <= 5

    asyncio.run(scenario())


def test_a_node_with_other_code_is_told_so() -> None:
    from inference.ray_pool import Relay

    with pytest.raises(RuntimeError, match="install the same version"):
        Relay(0, PATIENT, "0" * 64)
