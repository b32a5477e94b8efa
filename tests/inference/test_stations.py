"""When a worker is sent its next batch, and what becomes of one that waits behind another."""

import asyncio

from inference.batching import BatchLimits
from inference.dispatch import Dispatcher
from inference.errors import WorkerLost
from inference.queueing import Priority
from tests.inference.dispatching import FLAT, Runner, dispatching, submit, turn

LONG = list(range(60))  # A batch of it is expected to run 6 ms.


async def nearly_done() -> None:
    """Wait until a batch of LONG is nearly done, by its expected time."""
    await asyncio.sleep(0.03)


def test_the_next_batch_is_sent_behind_one_that_is_nearly_done_and_not_sooner() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        runner = Runner(dispatcher)
        first, second, third = submit(dispatcher, LONG), submit(dispatcher, LONG), submit(dispatcher, LONG)
        await turn()
        assert len(runner.batches) == 1
        await nearly_done()
        assert len(runner.batches) == 2  # One behind, however long that is.
        runner.answer(tag=1)
        assert first.future.done()
        assert not second.future.done()
        await nearly_done()
        assert len(runner.batches) == 3
        runner.answer(tag=2)
        runner.answer(tag=3)
        assert second.future.done()
        assert third.future.done()
        assert dispatcher.waiting_rows == 0
        assert not dispatcher.is_busy("v")

    dispatching(scenario, max_rows=1)


def test_a_short_batch_has_none_behind_it() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        runner = Runner(dispatcher)
        submit(dispatcher, LONG[:40])
        submit(dispatcher, LONG[:40])
        await turn()
        await nearly_done()
        assert len(runner.batches) == 1

    dispatching(scenario, max_rows=1)


def test_a_free_worker_comes_before_one_that_is_nearly_done() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        busy = Runner(dispatcher)
        submit(dispatcher, LONG)
        await turn()
        await nearly_done()
        free = Runner(dispatcher)
        submit(dispatcher, LONG)
        await turn()
        assert len(busy.batches) == 1
        assert len(free.batches) == 1

    dispatching(scenario)


def test_what_waits_behind_a_batch_survives_the_worker_and_counts_for_nothing() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        dying = Runner(dispatcher)
        running, behind = submit(dispatcher, LONG), submit(dispatcher, LONG)
        await turn()
        await nearly_done()
        assert len(dying.batches) == 2
        assert dispatcher.is_busy("v")
        dying.kill()
        other = Runner(dispatcher)
        await turn()
        other.kill()  # The second worker that dies on the row that ran.
        assert isinstance(running.future.exception(), WorkerLost)
        assert not behind.future.done()
        last = Runner(dispatcher)
        await turn()
        last.answer()
        assert behind.future.done()

    dispatching(scenario, max_rows=1)


def test_a_batch_jobs_rows_wait_for_a_free_worker() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        runner = Runner(dispatcher)
        submit(dispatcher, LONG)
        submit(dispatcher, LONG, priority=Priority.BATCH)
        await turn()
        await nearly_done()
        assert len(runner.batches) == 1
        runner.answer()
        assert len(runner.batches) == 2

    dispatching(scenario, max_rows=1)


def test_a_worker_is_killed_for_a_batch_that_hangs_behind_another() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        dispatcher = Dispatcher(limits=BatchLimits(max_rows=1), max_queue_rows=100, run_timeout_s=0.05)
        dispatcher.open_version("v", number=1, step_costs=FLAT)
        hanging = Runner(dispatcher)
        submit(dispatcher, LONG)
        submit(dispatcher, LONG)
        await turn()
        await nearly_done()
        hanging.answer(tag=1)
        await asyncio.sleep(0.2)
        assert not dispatcher.stations

    dispatching(scenario)
