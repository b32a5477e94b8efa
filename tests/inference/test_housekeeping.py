"""What stays loaded: within the memory, by who was called last, and never at the cost of a call."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from inference.artifacts import Bundle
from inference.batching import BatchLimits
from inference.engine import Engine, VersionStats
from tests.inference.graphs import FLOAT, graph, tensor, write_raw
from tests.inference.models import mean_model, slow_model, write_bundle
from tests.inference.running import answer, begin, ids, infer, is_alive, running, until

MB = 10**6


def heavy(*, megabytes: int, seed: int = 0) -> onnx.ModelProto:
    """Return a model that adds the sum of so many megabytes of noise, which it must keep."""
    weights = np.random.default_rng(seed).standard_normal(megabytes * MB // 4).astype(np.float32)
    node = helper.make_node("Gather", ["weights", "x"], ["y"])
    return graph([node], [tensor("x", onnx.TensorProto.INT64, ["n"])], [tensor("y", FLOAT, ["n"])], weights=weights)


async def call(engine: Engine, bundle: Bundle) -> float:
    deadline = asyncio.get_running_loop().time() + 20
    inferred = await engine.infer_tensors(bundle, {"x": np.array([0])}, tenant="a", deadline=deadline)
    return float(inferred.outputs["y"][0])


def stats_of(engine: Engine, bundle: Bundle) -> VersionStats:
    [found] = [version for version in engine.stats().versions if version.key == bundle.key]
    return found


def is_loaded(engine: Engine, *bundles: Bundle) -> list[bool]:
    return [stats_of(engine, bundle).loaded for bundle in bundles]


def test_a_versions_memory_and_work_are_measured(tmp_path: Path) -> None:
    bundle = write_raw(tmp_path / "heavy", heavy(megabytes=40))

    async def scenario() -> None:
        async with running() as engine:
            for _ in range(3):
                await call(engine, bundle)
            stats = stats_of(engine, bundle)
            assert stats.loaded
            assert stats.provider == "cpu"
            assert (stats.figures.calls, stats.figures.rows, stats.figures.loads) == (3, 3, 1)
            assert 40 * MB <= stats.figures.memory_bytes < 55 * MB  # The first load also counts what ONNX Runtime takes for itself.
            assert stats.figures.load_s > 0

    asyncio.run(scenario())


def test_the_version_called_least_recently_makes_room_and_is_loaded_again_by_its_next_call(tmp_path: Path) -> None:
    first, second, third = (write_raw(tmp_path / str(seed), heavy(megabytes=50, seed=seed)) for seed in range(3))

    async def scenario() -> None:
        async with running(models_memory_bytes=130 * MB) as engine:
            expected = [await call(engine, bundle) for bundle in (first, second)]
            assert is_loaded(engine, first, second) == [True, True]
            await call(engine, first)
            await call(engine, third)
            assert is_loaded(engine, second) == [False]
            assert stats_of(engine, second).figures.evictions == 1
            assert await call(engine, second) == expected[1]
            assert is_loaded(engine, second) == [True]
            assert engine.stats().restarts == 0

    asyncio.run(scenario())


def test_a_version_larger_than_all_the_memory_is_served_by_itself(tmp_path: Path) -> None:
    small, large = write_raw(tmp_path / "small", heavy(megabytes=1)), write_raw(tmp_path / "large", heavy(megabytes=60, seed=1))

    async def scenario() -> None:
        async with running(models_memory_bytes=50 * MB) as engine:
            await call(engine, small)
            assert engine.has_room(small)
            assert not engine.has_room(large)
            await call(engine, large)
            assert is_loaded(engine, small, large) == [False, True]

    asyncio.run(scenario())


def test_a_version_with_calls_is_not_evicted_for_another(tmp_path: Path) -> None:
    slow = write_bundle(tmp_path / "slow", slow_model())
    large = write_raw(tmp_path / "large", heavy(megabytes=60, seed=1))

    async def scenario() -> None:
        async with running(workers=2, models_memory_bytes=50 * MB) as engine:
            await infer(engine, slow, ids(1))
            alone = replace(slow, limits=BatchLimits(max_rows=1))
            waiting = [begin(engine, alone, ids(15), within_s=90) for _ in range(8)]  # Some 0.3 s each, on an idle machine.
            await until(lambda: engine.stats().batches > 1)
            await engine.load(large)
            assert not all(task.done() for task in waiting)
            assert is_loaded(engine, slow, large) == [True, True]
            for task in waiting:
                assert answer(await task) == [15]
            assert stats_of(engine, slow).figures.evictions == 0

    asyncio.run(scenario())


def test_an_idle_version_costs_nothing_until_its_next_call(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, mean_model())

    async def scenario() -> None:
        async with running(model_idle_s=0.2) as engine:
            assert engine._keeper is not None
            await infer(engine, bundle, ids(1))
            await engine._keeper.evict_idle()
            assert is_loaded(engine, bundle) == [True]
            await asyncio.sleep(0.3)
            await engine._keeper.evict_idle()
            assert is_loaded(engine, bundle) == [False]
            assert answer(await infer(engine, bundle, ids(2))) == [2]
            assert stats_of(engine, bundle).figures.loads == 2

    asyncio.run(scenario())


def test_a_worker_that_does_not_answer_is_replaced(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, mean_model())

    async def scenario() -> None:
        async with running() as engine:
            await infer(engine, bundle, ids(1))
            [pid] = engine.stats().pids
            assert engine._fleet is not None
            await engine._fleet.check_workers(timeout_s=5)
            assert is_alive(pid)
            os.kill(pid, signal.SIGSTOP)
            await engine._fleet.check_workers(timeout_s=0.3)
            await until(lambda: engine.stats().restarts == 1 and engine.is_ready())
            assert not is_alive(pid)
            assert answer(await infer(engine, bundle, ids(2))) == [2]

    asyncio.run(scenario())


def test_no_call_fails_while_the_traffic_moves_to_another_version(tmp_path: Path) -> None:
    old, new = write_bundle(tmp_path / "old", mean_model()), write_bundle(tmp_path / "new", mean_model(), pad_id=1)
    answered: list[list[float]] = []

    async def scenario() -> None:
        async with running(workers=2, model_idle_s=0.0) as engine:
            assert engine._keeper is not None
            current = old
            stop = asyncio.Event()

            async def caller(number: int) -> None:
                while not stop.is_set():
                    answered.append(answer(await infer(engine, current, ids(number), tenant=str(number))))

            callers = [asyncio.create_task(caller(number)) for number in range(1, 9)]
            await until(lambda: len(answered) > 100)
            current = new
            before = len(answered)
            await until(lambda: len(answered) > before + 200)
            await engine._keeper.evict_idle()
            assert not stats_of(engine, old).loaded  # Nobody calls it any more.
            before = len(answered)
            await until(lambda: len(answered) > before + 100)
            stop.set()
            await asyncio.gather(*callers)

    asyncio.run(scenario())
    assert {value for values in answered for value in values} == set(range(1, 9))
