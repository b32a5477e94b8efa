"""Queues on one side, workers on the other: which rows go where, and what becomes of the answers.

Knows neither processes nor files: a runner is anything that runs batches and can be killed (`queueing.Runner`).
"""

import asyncio
from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

import numpy as np
import numpy.typing as npt

from inference.batching import BatchLimits, StepCosts
from inference.counters import MAX_COUNTED_ROWS, Counters
from inference.errors import DeadlineExceeded, InferenceError, ModelFailed, QueueFull, WorkerLost
from inference.queueing import Answers, Call, Inferred, Row, RowQueue, Runner, TensorQueue, Tensors

# A row is given to two workers at most: a third would let one poisonous call stop them all, one after the other.
_MAX_LOST_WORKERS: Final = 2
# Weight of the newest batch in the running mean of seconds per row; some ten batches are remembered.
_MEAN_WEIGHT: Final = 0.1


@dataclass(slots=True, eq=False)
class Batch:
    """Rows that were sent together."""

    queue: RowQueue
    tag: int
    provider: str
    rows: list[Row]
    size: int  # Rows of the model's batch: of calls with tensors, all of their rows.


@dataclass(slots=True, eq=False)
class Station:
    """A worker as the dispatcher sees it."""

    runner: Runner
    serves: dict[str, str] = field(default_factory=dict)  # Version key -> provider.
    # One at a time. A second batch in its socket would hide the gateway's hop, but leaves fewer rows to
    # choose from: measured with 32 callers, it made no difference to calls/s and padded more.
    running: Batch | None = None
    loading: int = 0  # While it loads a model, batches would wait for the load.
    batches: int = 0
    timer: asyncio.TimerHandle | None = None


class Dispatcher:
    """Sends waiting rows to free workers, in batches, and answers their calls."""

    def __init__(self, *, limits: BatchLimits, max_queue_rows: int, run_timeout_s: float) -> None:
        """Nothing runs until a version is opened and a station added.

        Args:
            limits: Bounds of one batch.
            max_queue_rows: Most rows that wait, of all versions together; one tenant may take half.
            run_timeout_s: Longest a batch may run before its worker is killed.
        """
        self.counters = Counters()
        self.waiting_rows = 0
        self._limits = limits
        self._max_queue_rows = max_queue_rows
        self._max_tenant_rows = max(1, max_queue_rows // 2)
        self._run_timeout_s = run_timeout_s
        self._loop = asyncio.get_running_loop()
        self._stations: list[Station] = []
        self._queues: dict[str, RowQueue] = {}  # Of pipelines' rows.
        self._tensor_queues: dict[str, TensorQueue] = {}
        self._turns: deque[RowQueue] = deque()  # Each at most once; those with waiting rows, and some that have none left.
        self._calls: set[Call] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._wake_up: asyncio.Handle | None = None
        self._tenant_rows: dict[Hashable, int] = {}  # Waiting; without those that have none.
        self._row_s = 0.0
        self._idle: asyncio.Future[None] | None = None

    # -- calls

    def submit(
        self,
        key: str,
        rows: Sequence[npt.NDArray[np.int64]] | Sequence[Tensors],
        *,
        output: str | None,
        tenant: Hashable,
        deadline: float,
    ) -> Call:
        """Queue a call; its future brings the answer.

        Args:
            key: The version's.
            rows: Of a pipeline's call, each row's ids; of one with tensors, these alone.
            output: Of a pipeline's call, the name its answer goes by; None for tensors.
            tenant: Whose it is.
            deadline: Seconds of the loop's clock.

        Raises:
            QueueFull, DeadlineExceeded: nothing was queued.
        """
        if deadline <= self._loop.time():
            raise DeadlineExceeded(started=False)
        queue: RowQueue
        if output is not None:
            queue, weight = self._queues[key], 1
        else:
            queue, weight = self._tensor_queues[key], sum(tensors.weight for tensors in rows if isinstance(tensors, Tensors))
        self._check_room(tenant, weight * len(rows))
        call = Call(output, tenant, deadline, perf_counter(), self._loop.create_future(), queue, len(rows))
        call.rows = [Row(call, inputs, len(inputs), weight=weight) for inputs in rows]
        for row in call.rows:
            queue.add(row)
        self._count(call, weight * len(rows))
        self._calls.add(call)
        if self._alarm is None or deadline < self._alarm.when():
            self._set_alarm(deadline)
        if not queue.has_turn:
            queue.has_turn = True
            self._turns.append(queue)
        # Not at once: calls that arrive in the same turn of the loop share a batch.
        self.wake()
        return call

    def abandon(self, call: Call) -> None:
        """Forget a call that nobody waits for any more; what has not been sent never will be."""
        for row in call.rows:
            if row.waiting:
                call.queue.discard(row)
                self._count(call, -row.weight)
        call.rows = []  # Rows and calls name each other; freed now, not by the collector.
        self._calls.discard(call)
        if not self._calls and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def fail(self, call: Call, error: InferenceError) -> None:
        """Answer a call with an error, and forget it."""
        self.abandon(call)
        if not call.future.done():
            call.future.set_exception(error)

    def fail_all(self, error: InferenceError) -> None:
        """Answer every call with an error."""
        for call in list(self._calls):
            self.fail(call, error)

    async def wait_until_idle(self) -> None:
        """Return once no call is unanswered."""
        if self._calls:
            self._idle = self._loop.create_future()
            await self._idle

    # -- versions and stations

    def open_version(
        self, key: str, *, number: int, step_costs: Mapping[int, float], joins: bool = False, outputs: Iterable[str] = ()
    ) -> None:
        """Accept calls for a version.

        Args:
            key: What callers name it by.
            number: What workers know it by.
            step_costs: Rows of a batch -> cost of one time step, as a worker measured it; none
                where the version has no pipeline.
            joins: Whether calls with tensors of one form may run together.
            outputs: The names of all its outputs.

        Raises:
            ValueError: these are no costs; the version stays closed.
        """
        if step_costs:
            costs = StepCosts.from_points(step_costs, max_rows=self._limits.max_rows)
            self._queues[key] = RowQueue(key, number=number, costs=costs)
        self._tensor_queues[key] = TensorQueue(key, number=number, joins=joins, outputs=outputs)

    def close_version(self, key: str, error: InferenceError) -> None:
        """Accept no more calls for a version, and answer those that wait with an error."""
        queues = (self._queues.pop(key, None), self._tensor_queues.pop(key, None))
        for station in self._stations:
            station.serves.pop(key, None)
        for call in [call for call in self._calls if call.queue in queues]:
            self.fail(call, error)

    def add_station(self, station: Station) -> None:
        """Send batches to a worker from now on."""
        self._stations.append(station)
        self.wake()

    def remove_station(self, station: Station) -> None:
        """Take back what a dead worker had; the batch it died on is tried once more, row by row."""
        if station in self._stations:
            self._stations.remove(station)
        if station.timer is not None:
            station.timer.cancel()
        batch, station.running = station.running, None
        for row in reversed(batch.rows if batch is not None else []):
            row.lost_workers += 1
            if row.call.future.done():
                continue
            if row.lost_workers >= _MAX_LOST_WORKERS:
                self.fail(row.call, WorkerLost("two workers died or hung on this call"))
            else:
                self._retry(row)
        self.wake()

    @property
    def stations(self) -> Sequence[Station]:
        """The workers that take batches."""
        return self._stations

    # -- batches

    def wake(self) -> None:
        """Dispatch at the end of this turn of the loop, if a worker has room."""
        if self._wake_up is not None:
            return
        for station in self._stations:
            if station.running is None:
                self._wake_up = self._loop.call_soon(self._dispatch)
                return

    def receive_result(self, station: Station, tag: int, output: Answers, *, ran_us: int) -> None:
        """Answer the rows of the batch that a worker has finished; first give it the next one.

        Args:
            station: Which has finished.
            tag: Of the batch.
            output: Its rows' answers: one array, or of calls with tensors a list of outputs by name.
            ran_us: How long it ran.
        """
        batch = self._pop_batch(station, tag, output)
        if batch is None:
            return
        self._dispatch()
        self._row_s += _MEAN_WEIGHT * (ran_us / 1e6 / len(batch.rows) - self._row_s)
        provider = batch.provider
        for position, row in enumerate(batch.rows):
            call = row.call
            if call.future.done():
                continue
            row.answer = output[position : position + 1]
            call.unanswered -= 1
            if ran_us >= call.infer_us:
                call.infer_us, call.batch_rows = ran_us, batch.size
            if call.unanswered == 0:
                self._finish(call, provider)

    def receive_failure(self, station: Station, tag: int, detail: str) -> None:
        """Retry the rows of a batch that the model failed on, one by one; a row that was alone has failed."""
        batch = self._pop_batch(station, tag)
        if batch is None:
            return
        self.counters.failed_rows += len(batch.rows)
        for row in reversed(batch.rows):
            if row.call.future.done():
                continue
            if len(batch.rows) > 1:
                self._retry(row)
            else:
                self.fail(row.call, ModelFailed(detail, row=row.call.rows.index(row)))
        self.wake()

    def receive_inseparable(self, station: Station, tag: int) -> None:
        """Run the calls of a batch one by one whose outputs could not be told apart, and all later ones of the version."""
        batch = self._pop_batch(station, tag)
        if batch is None:
            return
        if isinstance(batch.queue, TensorQueue):
            batch.queue.joins = False
        for row in reversed(batch.rows):
            if not row.call.future.done():
                self._retry(row)
        self.wake()

    def _dispatch(self) -> None:
        if self._wake_up is not None:
            self._wake_up.cancel()
            self._wake_up = None
        passed_over = 0
        while passed_over < len(self._turns):
            queue = self._turns.popleft()
            if not queue:
                queue.has_turn = False
                continue
            self._turns.append(queue)
            station = self._find_station(queue.key)
            if station is None:
                passed_over += 1
                continue
            passed_over = 0
            self._send(station, queue)

    def _find_station(self, key: str) -> Station | None:
        """Return a worker that would run a batch of this version at once."""
        for station in self._stations:
            if station.running is None and not station.loading and key in station.serves:
                return station
        return None

    def _send(self, station: Station, queue: RowQueue) -> None:
        rows = queue.take(self._limits)
        tag, size, tokens, padded_tokens = queue.send(rows, station.runner)
        station.running = Batch(queue, tag, station.serves[queue.key], rows, size)
        station.timer = self._loop.call_later(self._run_timeout_s, station.runner.kill)
        for row in rows:
            row.call.started = True
            self._count(row.call, -row.weight)
        counters = self.counters
        counters.batches += 1
        counters.rows += size
        counters.batches_by_rows[min(size, MAX_COUNTED_ROWS)] += 1
        counters.tokens += tokens
        counters.padded_tokens += padded_tokens

    def _pop_batch(self, station: Station, tag: int, output: Answers | None = None) -> Batch | None:
        """Return the batch that a reply is about.

        A worker that answers what it was not asked, or for more rows or fewer, is no longer ours: it is
        killed, and its batch is treated like any that a worker died on.
        """
        batch = station.running
        if batch is None or batch.tag != tag or (output is not None and not batch.queue.is_answer(output, batch.rows)):
            station.runner.kill()
            return None
        if station.timer is not None:
            station.timer.cancel()
        station.running = None
        station.batches += 1
        return batch

    def _retry(self, row: Row) -> None:
        """Queue a row of a batch that came to nothing, before all others and to run alone."""
        row.call.queue.add_alone(row)
        self._count(row.call, row.weight)
        self.counters.retried_rows += 1
        if not row.call.queue.has_turn:
            row.call.queue.has_turn = True
            self._turns.appendleft(row.call.queue)

    def _finish(self, call: Call, provider: str) -> None:
        answers = [row.answer for row in call.rows if row.answer is not None]
        if call.output is None:
            outputs = answers[0][0]
        else:
            try:
                outputs = {call.output: answers[0] if len(answers) == 1 else np.concatenate(answers)}
            except ValueError:  # The output's other dimensions depend on the batch: that is no answer per row.
                self.fail(call, ModelFailed("rows of one call have outputs of different shapes"))
                return
        spent_us = int((perf_counter() - call.queued_at) * 1e6)
        inferred = Inferred(outputs, max(0, spent_us - call.infer_us), call.infer_us, call.batch_rows, provider)
        self.abandon(call)
        call.future.set_result(inferred)

    # -- room

    def _check_room(self, tenant: Hashable, rows: int) -> None:
        """Raise QueueFull where so many rows more are too many, in all or for this tenant."""
        of_tenant = self._tenant_rows.get(tenant, 0)
        # Turns are fair only to those who get in: nobody may take more than half of the room.
        for waiting, most in ((self.waiting_rows, self._max_queue_rows), (of_tenant, self._max_tenant_rows)):
            if waiting + rows > most:
                raise QueueFull(waiting_rows=waiting, max_queue_rows=most, retry_after_s=self._estimate_wait_s())

    def _count(self, call: Call, rows: int) -> None:
        """Count rows that begin or, if negative, end to wait."""
        self.waiting_rows += rows
        of_tenant = self._tenant_rows.get(call.tenant, 0) + rows
        if of_tenant:
            self._tenant_rows[call.tenant] = of_tenant
        else:
            self._tenant_rows.pop(call.tenant, None)

    # -- time

    def _set_alarm(self, deadline: float) -> None:
        """Ring at the earliest deadline: one timer for all calls, moved only for an earlier one."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._alarm = None
        now = self._loop.time()
        for call in [call for call in self._calls if call.deadline <= now]:
            self.fail(call, DeadlineExceeded(started=call.started))
        if self._calls:
            self._set_alarm(min(call.deadline for call in self._calls))

    def _estimate_wait_s(self) -> float:
        """Seconds until the rows that wait now will have run, from the mean of recent batches."""
        return self.waiting_rows * self._row_s / max(1, len(self._stations))
