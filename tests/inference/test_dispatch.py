"""What becomes of rows and answers, with runners that only note what they are given."""

import asyncio
import time

import numpy as np
import pytest
import uvloop

from inference.batching import BatchLimits
from inference.dispatch import Dispatcher
from inference.errors import DeadlineExceeded, ModelFailed, ModelLoadFailed, QueueFull, WorkerLost
from inference.queueing import Priority
from tests.inference.dispatching import FLAT, Runner, dispatching, submit, turn
from tests.inference.running import ids


def test_a_worker_gets_its_next_batch_before_the_answers_go_out() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        runner = Runner(dispatcher)
        first, second = submit(dispatcher, [1]), submit(dispatcher, [2])
        await turn()
        runner.answer()
        assert runner.batches == [[[1]], [[2]]]
        assert first.future.result().outputs["out"].tolist() == [[1]]
        assert not second.future.done()

    dispatching(scenario, max_rows=1)


@pytest.mark.parametrize("answer", [{"rows": 3}, {"rows": 0}, {"tag": 99}], ids=["too many rows", "no rows", "another batch"])
def test_a_worker_that_answers_what_it_was_not_asked_is_killed_and_its_rows_run_elsewhere(answer: dict[str, int]) -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        liar = Runner(dispatcher)
        calls = [submit(dispatcher, [1]), submit(dispatcher, [2])]
        await turn()
        liar.answer(**answer)
        assert not any(call.future.done() for call in calls)
        assert liar.station not in dispatcher.stations
        honest = Runner(dispatcher)
        await turn()
        honest.answer()
        honest.answer()
        assert sorted(honest.batches) == [[[1]], [[2]]]
        assert all(call.future.done() for call in calls)
        assert dispatcher.waiting_rows == 0

    dispatching(scenario)


def test_rows_that_lost_one_worker_run_alone_and_only_the_one_that_loses_two_is_given_up() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        poison, innocent = submit(dispatcher, [7]), submit(dispatcher, [1])
        for _ in range(2):
            runner = Runner(dispatcher)
            await turn()
            assert [7] in runner.batches[-1]
            runner.kill()
        assert isinstance(poison.future.exception(), WorkerLost)
        survivor = Runner(dispatcher)
        await turn()
        survivor.answer()
        assert innocent.future.result().outputs["out"].tolist() == [[1]]

    dispatching(scenario)


def test_a_failed_row_takes_its_calls_other_rows_out_of_the_queue() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        runner = Runner(dispatcher)
        call = submit(dispatcher, [1], [2], [3])
        await turn()
        dispatcher.receive_failure(runner.station, 1, "no")
        assert isinstance(call.future.exception(), ModelFailed)
        await turn()
        assert len(runner.batches) == 1
        assert dispatcher.waiting_rows == 0

    dispatching(scenario, max_rows=1)


def test_versions_take_turns_and_cancelled_calls_give_theirs_up() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        for _ in range(3):
            dispatcher.abandon(submit(dispatcher, [9]))
        for _ in range(3):
            submit(dispatcher, [1])
        submit(dispatcher, [2], key="w")
        runner = Runner(dispatcher)
        await turn()
        for _ in range(4):
            runner.answer()
        assert runner.versions == [1, 2, 1, 1]

    dispatching(scenario, max_rows=1)


def test_closing_a_version_fails_its_calls_and_no_others() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        runner = Runner(dispatcher)
        running, other = submit(dispatcher, [1]), submit(dispatcher, [2], key="w")
        await turn()
        waiting = submit(dispatcher, [3])
        dispatcher.close_version("v", ModelLoadFailed("closed"))
        assert isinstance(running.future.exception(), ModelLoadFailed)
        assert isinstance(waiting.future.exception(), ModelLoadFailed)
        runner.answer()
        runner.answer()
        assert other.future.result().outputs["out"].tolist() == [[2]]
        assert runner.batches == [[[1]], [[2]]]

    dispatching(scenario)


def test_rows_whose_outputs_have_different_shapes_are_no_answer() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        runner = Runner(dispatcher)
        call = submit(dispatcher, [1], [2])
        await turn()
        dispatcher.receive_result(runner.station, 1, np.zeros((1, 2), np.float32), ran_us=1)
        dispatcher.receive_result(runner.station, 2, np.zeros((1, 3), np.float32), ran_us=1)
        assert isinstance(call.future.exception(), ModelFailed)

    dispatching(scenario, max_rows=1)


def test_batch_jobs_run_where_no_live_call_waits() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        job = [submit(dispatcher, [9], priority=Priority.BATCH) for _ in range(2)]
        submit(dispatcher, [1])
        submit(dispatcher, [2], key="w")
        runner = Runner(dispatcher)
        await turn()
        runner.answer()
        submit(dispatcher, [3])
        for _ in range(4):
            runner.answer()
        assert runner.batches == [[[1]], [[2]], [[3]], [[9]], [[9]]]
        assert all(call.future.done() for call in job)
        assert dispatcher.waiting_rows == 0

    dispatching(scenario, max_rows=1)


def test_batch_jobs_may_take_half_of_the_room_and_leave_the_rest_to_live_calls() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        for tenant in range(50):
            submit(dispatcher, [9], tenant=f"job {tenant}", priority=Priority.BATCH)
        with pytest.raises(QueueFull) as refused:
            submit(dispatcher, [9], tenant="another", priority=Priority.BATCH)
        assert refused.value.max_queue_rows == 50
        submit(dispatcher, *[[1]] * 50)
        assert dispatcher.waiting_rows == 100

    dispatching(scenario)


def test_a_version_has_its_own_bound_on_waiting_rows() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        few = BatchLimits(max_queue_rows=2)
        waiting = submit(dispatcher, [1], [2], limits=few)
        with pytest.raises(QueueFull) as refused:
            submit(dispatcher, [3], limits=few, tenant="b")
        assert (refused.value.waiting_rows, refused.value.max_queue_rows) == (2, 2)
        submit(dispatcher, [4], key="w", tenant="b")  # Other versions have room.
        dispatcher.abandon(waiting)
        submit(dispatcher, [3], limits=few)

    dispatching(scenario)


def test_a_changed_limit_holds_for_the_next_batch() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        runner = Runner(dispatcher)
        submit(dispatcher, [0])
        await turn()
        for number in range(4):
            submit(dispatcher, [number], limits=BatchLimits(max_rows=2))
        runner.answer()
        runner.answer()
        assert [len(batch) for batch in runner.batches] == [1, 2, 2]

    dispatching(scenario)


def test_a_delay_keeps_rows_until_the_oldest_has_waited_or_the_batch_is_full() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        patient = BatchLimits(max_rows=3, max_queue_delay_us=50_000)
        runner = Runner(dispatcher)
        first = submit(dispatcher, [1], limits=patient)
        await asyncio.sleep(0.01)
        submit(dispatcher, [2], limits=patient)
        await asyncio.sleep(0.01)
        assert runner.batches == []
        submit(dispatcher, [5], key="w")  # Others do not wait for it.
        await turn()
        assert runner.batches == [[[5]]]
        runner.answer()
        async with asyncio.timeout(2):
            while len(runner.batches) < 2:  # noqa: ASYNC110 (a runner sets no event)
                await asyncio.sleep(0.005)
        assert sorted(runner.batches[1]) == [[1], [2]]
        runner.answer()
        assert first.future.result().queue_us >= 40_000
        for number in range(3):
            submit(dispatcher, [number], limits=patient)
        await turn()
        assert len(runner.batches[2]) == 3  # Full: at once.

    dispatching(scenario)


def test_a_deadline_that_comes_at_once_does_not_harm_the_next_call() -> None:
    # On the gateway's own loop: a timer that is due in less than a millisecond is none there, and cannot tell its time.
    async def run() -> None:
        dispatcher = Dispatcher(limits=BatchLimits(), max_queue_rows=100, run_timeout_s=5)
        dispatcher.open_version("v", number=1, step_costs=FLAT)
        now = asyncio.get_running_loop().time()
        hasty = dispatcher.submit("v", [ids(1)], output="y", tenant="a", deadline=now + 0.0004)
        patient = dispatcher.submit("v", [ids(2)], output="y", tenant="a", deadline=now + 60)
        with pytest.raises(DeadlineExceeded):
            await hasty.future
        assert not patient.future.done()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def test_an_answer_that_comes_after_its_deadline_is_none_even_before_the_alarm_rings() -> None:
    async def scenario(dispatcher: Dispatcher) -> None:
        runner = Runner(dispatcher)
        deadline = asyncio.get_running_loop().time() + 0.01
        call = dispatcher.submit("v", [ids(1)], output="out", tenant="a", deadline=deadline)
        await asyncio.sleep(0)
        time.sleep(0.02)  # noqa: ASYNC251 (the loop itself is kept waiting, as on a busy machine)

        runner.answer()

        with pytest.raises(DeadlineExceeded) as caught:
            await call.future
        assert caught.value.started

    dispatching(scenario)
