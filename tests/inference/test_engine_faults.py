"""Workers that die, hang or lie, and rows that models fail on: who is answered, and what it costs the others."""

import asyncio
import contextlib
import errno
import os
import secrets
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from inference import wire
from inference.artifacts import Bundle
from inference.engine import Engine
from inference.errors import ModelFailed, ModelLoadFailed, WorkerLost
from inference.pool import WorkerSettings
from tests.inference.models import POISON, failing_model, hungry_model, mean_model, slow_model, write_bundle
from tests.inference.running import answer, begin, cpu_s, ids, infer, is_alive, running, until

BUSY = 5  # About 0.2 s of `slow_model`.
FOREVER = 10**9


async def until_busy(pid: int) -> None:
    """Wait until a worker has been computing for 50 ms: it is in the middle of a batch."""
    used = cpu_s(pid)
    await until(lambda: cpu_s(pid) > used + 0.05)


def test_the_row_that_the_model_fails_on_fails_alone(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, failing_model())

    async def scenario() -> None:
        async with running() as engine:
            await engine.load(bundle)
            calls = [begin(engine, bundle, ids(2, 3)), begin(engine, bundle, ids(2), ids(POISON, 2)), begin(engine, bundle, ids(4, 4))]
            first, second, third = await asyncio.gather(*calls, return_exceptions=True)
            assert (answer(first), answer(third)) == ([5], [8])
            assert isinstance(second, ModelFailed)
            assert second.row == 1
            stats = engine.stats()
            assert stats.restarts == stats.queue_rows == 0
            assert stats.retried_rows > 0

    asyncio.run(scenario())


def test_a_row_that_was_alone_is_not_tried_twice(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, failing_model())

    async def scenario() -> None:
        async with running() as engine:
            with pytest.raises(ModelFailed):
                await infer(engine, bundle, ids(POISON))
            assert (engine.stats().batches, engine.stats().retried_rows) == (1, 0)

    asyncio.run(scenario())


def test_a_killed_worker_costs_its_calls_a_second_run_and_the_others_nothing(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, slow_model())

    async def scenario() -> None:
        async with running() as engine:
            await engine.load(bundle)
            (pid,) = engine.stats().pids
            calls = [begin(engine, bundle, ids(BUSY)), begin(engine, bundle, ids(BUSY, 1)), begin(engine, bundle, ids(2))]
            await until_busy(pid)
            os.kill(pid, signal.SIGKILL)
            assert [answer(inferred) for inferred in await asyncio.gather(*calls)] == [[5], [6], [2]]
            assert engine.stats().restarts == 1
            assert engine.stats().pids != (pid,)
            assert not is_alive(pid)

    asyncio.run(scenario())


def test_a_call_that_loses_two_workers_is_given_up_and_the_engine_serves_on(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, slow_model())

    async def scenario() -> None:
        async with running() as engine:
            await engine.load(bundle)
            call = begin(engine, bundle, ids(FOREVER), within_s=60)
            for _ in range(2):
                await until(lambda: len(engine.stats().pids) == 1 and engine.is_ready())
                (pid,) = engine.stats().pids
                await until_busy(pid)
                os.kill(pid, signal.SIGKILL)
                await until(lambda pid=pid: engine.stats().pids != (pid,))
            with pytest.raises(WorkerLost):
                await call
            assert answer(await infer(engine, bundle, ids(1))) == [1]
            assert (engine.stats().restarts, engine.stats().queue_rows) == (2, 0)

    asyncio.run(scenario())


def test_a_model_that_hangs_is_killed_and_those_in_its_batch_are_answered(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, slow_model())

    async def scenario() -> None:
        async with running(settings=WorkerSettings(run_timeout_s=0.4)) as engine:
            await engine.load(bundle)
            hangs = begin(engine, bundle, ids(FOREVER))
            innocent = begin(engine, bundle, ids(1))  # In the same batch, and alone the second time.
            assert answer(await innocent) == [1]
            with pytest.raises(WorkerLost):
                await hangs
            assert engine.stats().restarts == 2
            assert answer(await infer(engine, bundle, ids(2))) == [2]

    asyncio.run(scenario())


def test_a_model_that_hangs_holds_up_no_other_worker(tmp_path: Path) -> None:
    hanging, other = write_bundle(tmp_path / "a", slow_model()), write_bundle(tmp_path / "b", mean_model())

    async def scenario() -> None:
        async with running(workers=2, settings=WorkerSettings(run_timeout_s=1)) as engine:
            await asyncio.gather(engine.load(hanging), engine.load(other))
            call = begin(engine, hanging, ids(FOREVER), within_s=0.5)
            await until(lambda: engine.stats().rows == 1)
            for value in range(1, 6):
                assert answer(await infer(engine, other, ids(value), within_s=0.4)) == [value]
            await asyncio.gather(call, return_exceptions=True)

    asyncio.run(scenario())


def test_a_stopped_worker_is_found_by_its_silence(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, mean_model())

    async def scenario() -> None:
        async with running(settings=WorkerSettings(run_timeout_s=0.3)) as engine:
            await engine.load(bundle)
            (pid,) = engine.stats().pids
            os.kill(pid, signal.SIGSTOP)
            assert answer(await infer(engine, bundle, ids(3))) == [3]
            assert engine.stats().restarts == 1
            assert not is_alive(pid)

    asyncio.run(scenario())


def test_a_model_that_eats_memory_fails_its_own_row_at_the_workers_limit(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, hungry_model())

    async def scenario() -> None:
        async with running(settings=WorkerSettings(memory_bytes=2**30)) as engine:
            await engine.load(bundle)
            assert answer(await infer(engine, bundle, ids(8))) == [8]  # 32 MB.
            with pytest.raises(ModelFailed):
                await infer(engine, bundle, ids(2_000))  # 8 GB.
            assert answer(await infer(engine, bundle, ids(1))) == [1]
            assert engine.stats().restarts == 0

    asyncio.run(scenario())


def test_workers_killed_at_random_lose_no_call_and_answer_none_wrongly(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, slow_model(steps_per_id=500))
    seed = secrets.randbelow(10**6)
    print("seed", seed)
    chance = np.random.default_rng(seed)

    async def caller(engine: Engine, number: int) -> None:
        for value in range(1, 16):
            with contextlib.suppress(WorkerLost):  # Two deaths on one call: refused, which is an answer.
                assert answer(await infer(engine, bundle, ids(value, number))) == [value + number]

    async def killer(engine: Engine) -> None:
        for _ in range(6):
            await asyncio.sleep(chance.uniform(0.05, 0.3))
            pids = engine.stats().pids
            if pids:
                os.kill(int(chance.choice(pids)), signal.SIGKILL)

    async def scenario() -> None:
        async with running(workers=2) as engine:
            await engine.load(bundle)
            await asyncio.gather(killer(engine), *(caller(engine, number) for number in range(1, 9)))
            assert engine.stats().queue_rows == 0
            await until(lambda: engine.stats().ready_workers == 2)
            assert engine.stats().restarts >= 4

    asyncio.run(scenario())


def test_a_restarted_worker_has_every_version_loaded(tmp_path: Path) -> None:
    versions = [write_bundle(tmp_path / name, mean_model(), labels=[name, "other"], pad_id=pad) for pad, name in enumerate("ab")]

    async def scenario() -> None:
        async with running() as engine:
            await asyncio.gather(*(engine.load(bundle) for bundle in versions))
            os.kill(engine.stats().pids[0], signal.SIGKILL)
            await until(lambda: not engine.is_ready())
            for bundle in versions:
                assert answer(await infer(engine, bundle, ids(2))) == [2]
            assert engine.stats().retried_rows == 0

    asyncio.run(scenario())


def test_a_version_whose_file_is_gone_when_a_worker_restarts_fails_and_the_others_go_on(tmp_path: Path) -> None:
    gone, stays = write_bundle(tmp_path / "a", mean_model()), write_bundle(tmp_path / "b", mean_model(), pad_id=1)

    async def scenario() -> None:
        async with running() as engine:
            await asyncio.gather(engine.load(gone), engine.load(stays))
            gone.path.unlink()
            os.kill(engine.stats().pids[0], signal.SIGKILL)
            await until(lambda: not engine.is_ready())
            waits = begin(engine, gone, ids(1))
            assert answer(await infer(engine, stays, ids(2))) == [2]
            with pytest.raises(ModelLoadFailed):
                await waits
            assert engine.stats().queue_rows == 0

    asyncio.run(scenario())


def test_a_worker_that_sends_what_is_no_message_is_killed_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path, mean_model())

    async def scenario() -> None:
        async with running() as engine:
            await engine.load(bundle)
            (pid,) = engine.stats().pids

            def misread(_body: memoryview) -> None:
                monkeypatch.undo()
                raise wire.WireError

            # What a hostile worker could send is `test_wire`'s; here it is what follows that counts.
            monkeypatch.setattr(wire, "decode_arrays", misread)
            assert answer(await infer(engine, bundle, ids(1))) == [1]
            assert engine.stats().restarts == 1
            assert not is_alive(pid)

    asyncio.run(scenario())


def test_workers_die_with_a_gateway_that_is_killed() -> None:
    program = textwrap.dedent("""
        import asyncio
        from inference.engine import Engine

        async def main():
            engine = Engine(workers=2)
            await engine.start()
            print(*engine.stats().pids, flush=True)
            await asyncio.sleep(60)

        asyncio.run(main())
    """)
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root) as gateway:
        assert gateway.stdout is not None
        pids = [int(pid) for pid in gateway.stdout.readline().split()]
        assert len(pids) == 2
        gateway.kill()

    async def scenario() -> None:
        # A killed process's children are collected by init, or by whoever is in its place, in its own time.
        await until(lambda: all(not is_alive(pid) or _is_zombie(pid) for pid in pids))

    asyncio.run(scenario())


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_an_engine_whose_workers_cannot_start_says_so_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.pool.PACKAGE_ROOT", Path("/nonexistent"))

    async def scenario() -> None:
        engine = Engine(workers=2, settings=WorkerSettings(start_timeout_s=1))
        with pytest.raises(WorkerLost):
            await engine.start()
        assert not engine.is_ready()
        assert engine.stats().pids == ()

    asyncio.run(scenario())


def test_a_starter_model_answers_batched_as_it_does_alone() -> None:
    from inference.artifacts import load_bundle

    folder = Path(__file__).resolve().parents[2] / "inference" / "starter" / "sentiment"
    bundle: Bundle = load_bundle(folder, sha256=None)
    texts = ["a moving, funny film", "two hours I want back", "dull " * 60, "I loved every minute of it!", "no"]
    prepared = bundle.pipeline.prepare(texts, max_rows=8, max_characters=10_000)

    async def scenario() -> None:
        async with running() as engine:
            alone = [await infer(engine, bundle, row) for row in prepared.rows]
            together = await infer(engine, bundle, *prepared.rows)
            apart = [float(inferred.outputs["probability"][0, 0]) for inferred in alone]
            assert together.outputs["probability"].ravel().tolist() == pytest.approx(apart, abs=1e-5)
            prediction = bundle.pipeline.render(prepared, together.outputs, {"top_k": 1})
            assert [row[0]["label"] for row in prediction[:2]] == ["positive", "negative"]

    asyncio.run(scenario())


def test_a_worker_that_cannot_be_started_is_tried_again_until_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path, mean_model())

    def no_memory(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    async def scenario() -> None:
        async with running() as engine:
            await engine.load(bundle)
            with monkeypatch.context() as broken:
                broken.setattr("inference.pool.spawn", no_memory)
                os.kill(engine.stats().pids[0], signal.SIGKILL)
                await until(lambda: engine.stats().restarts >= 2)
                assert not engine.is_ready()
            assert answer(await infer(engine, bundle, ids(1))) == [1]

    asyncio.run(scenario())
