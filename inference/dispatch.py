"""Queues on one side, workers on the other: which rows go where, and what becomes of the answers.

Knows neither processes nor files: a runner is anything that runs batches and can be killed (`queueing.Runner`).
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Final

import numpy as np
import numpy.typing as npt

from inference.batching import MAX_BATCH_ROWS, BatchLimits, StepCosts
from inference.counters import MAX_COUNTED_ROWS, Counters, VersionFigures
from inference.errors import DeadlineExceeded, InferenceError, ModelFailed, WorkerLost
from inference.queueing import Answers, Call, Inferred, Priority, Row, RowQueue, TensorQueue, Tensors, VersionQueues, failure_of, weight_of
from inference.room import Room
from inference.stations import Batch, Station, Stations

# A row is given to two workers at most: a third would let one poisonous call stop them all, one after the other.
_MAX_LOST_WORKERS: Final = 2
# Weight of the newest batch in the running mean of seconds per row; some ten batches are remembered.
_MEAN_WEIGHT: Final = 0.1


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
        self.figures: defaultdict[str, VersionFigures] = defaultdict(VersionFigures)  # Version key -> what it did.
        self._limits = limits
        self._room = Room(max_rows=max_queue_rows)
        self._loop = asyncio.get_running_loop()
        self._stations = Stations(run_timeout_s=run_timeout_s, has_room=self.wake)
        self._versions: dict[str, VersionQueues] = {}
        # By priority. Each queue at most once; those with waiting rows, and some that have none left.
        self._rounds: tuple[deque[RowQueue], ...] = tuple(deque() for _ in Priority)
        self._delay: asyncio.TimerHandle | None = None  # Until a queue that waits for more rows is due.
        self._calls: set[Call] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0  # Noted here: what uvloop returns for a time that has come has no `when`.
        self._wake_up: asyncio.Handle | None = None
        self._idle: asyncio.Future[None] | None = None

    @property
    def waiting_rows(self) -> int:
        """How many rows wait, by weight."""
        return self._room.waiting_rows

    # -- calls

    def submit(
        self,
        key: str,
        rows: Sequence[npt.NDArray[np.int64]] | Sequence[Tensors],
        *,
        output: str | None,
        tenant: Hashable,
        deadline: float,
        limits: BatchLimits | None = None,
        priority: Priority = Priority.LIVE,
    ) -> Call:
        """Queue a call; its future brings the answer.

        Args:
            key: The version's.
            rows: Of a pipeline's call, each row's ids; of one with tensors, these alone.
            output: Of a pipeline's call, the name its answer goes by; None for tensors.
            tenant: Whose it is.
            deadline: Seconds of the loop's clock.
            limits: The version's, from now on; None for the engine's.
            priority: Batch jobs' rows run where no live call waits for a worker.

        Raises:
            QueueFull, DeadlineExceeded: nothing was queued.
        """
        if deadline <= self._loop.time():
            raise DeadlineExceeded(started=False)
        queues, weight = self._versions[key], weight_of(rows)
        queue: RowQueue = (queues.tensors if output is None else queues.rows)[priority]
        queue.limits = limits or self._limits
        self._room.check(tenant, weight * len(rows), queue)
        call = Call(output, tenant, deadline, perf_counter(), self._loop.create_future(), queue, len(rows))
        call.rows = [Row(call, inputs, len(inputs), weight=weight) for inputs in rows]
        queues.figures.calls += 1
        queues.figures.used_at = call.queued_at
        for row in call.rows:
            queue.add(row)
        self._room.count(call, weight * len(rows))
        self._calls.add(call)
        if self._alarm is None or deadline < self._alarm_at:
            self._set_alarm(deadline)
        if not queue.has_turn:
            queue.has_turn = True
            self._rounds[priority].append(queue)
        # Not at once: calls that arrive in the same turn of the loop share a batch.
        self.wake()
        return call

    def abandon(self, call: Call) -> None:
        """Forget a call that nobody waits for any more; what has not been sent never will be."""
        for row in call.rows:
            if row.waiting:
                call.queue.discard(row)
                self._room.count(call, -row.weight)
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
        rows: list[RowQueue] = []
        if step_costs:
            costs = StepCosts.from_points(step_costs, max_rows=MAX_BATCH_ROWS)
            rows = [RowQueue(key, number=number, costs=costs, limits=self._limits, priority=priority) for priority in Priority]
        tensors = [
            TensorQueue(key, number=number, joins=joins, outputs=outputs, limits=self._limits, priority=priority) for priority in Priority
        ]
        self._versions[key] = VersionQueues(rows, tensors, self.figures[key])

    def close_version(self, key: str, error: InferenceError) -> None:
        """Accept no more calls for a version, and answer those that wait with an error."""
        queues = self._versions.pop(key, None)
        if queues is None:
            return
        for station in self._stations:
            station.serves.pop(key, None)
        of_version = set(map(id, queues.all()))
        for call in [call for call in self._calls if id(call.queue) in of_version]:
            self.fail(call, error)

    def is_busy(self, key: str) -> bool:
        """Whether a version has rows that wait or run, or calls that wait for it to be loaded."""
        if self.figures[key].loading_calls or self.count_waiting(key):
            return True
        return self._stations.runs(key)

    def count_waiting(self, key: str) -> int:
        """Return how many of a version's rows wait, by weight."""
        queues = self._versions.get(key)
        return sum(queue.waiting_rows for queue in queues.all()) if queues else 0

    def add_station(self, station: Station) -> None:
        """Send batches to a worker from now on."""
        self._stations.add(station)
        self._room.workers = len(self._stations)
        self.wake()

    def remove_station(self, station: Station) -> None:
        """Take back what a dead worker had; the batch it died on is tried once more, row by row."""
        batch, behind = self._stations.remove(station)
        self._room.workers = len(self._stations)
        for row in reversed(behind.rows if behind is not None else []):  # It never began.
            if not row.call.future.done():
                self._retry(row)
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
        return tuple(self._stations)

    # -- batches

    def wake(self) -> None:
        """Dispatch at the end of this turn of the loop, if a worker has room."""
        if self._wake_up is not None:
            return
        if self._stations.have_room():
            self._wake_up = self._loop.call_soon(self._dispatch)

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
        room = self._room
        room.row_s += _MEAN_WEIGHT * (ran_us / 1e6 / len(batch.rows) - room.row_s)
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

    def receive_failure(self, station: Station, tag: int, detail: str | None) -> None:
        """Retry the rows of a batch that failed, one by one; a row that was alone has: the model on it, or (None) it is no image."""
        batch = self._pop_batch(station, tag)
        if batch is None:
            return
        self.counters.failed_rows += len(batch.rows)
        self.figures[batch.queue.key].failed_rows += len(batch.rows)
        for row in reversed(batch.rows):
            if row.call.future.done():
                continue
            if len(batch.rows) > 1:
                self._retry(row)
            else:
                self.fail(row.call, failure_of(row, detail))
        self.wake()

    def receive_inseparable(self, station: Station, tag: int) -> None:
        """Run the calls of a batch one by one whose outputs could not be told apart, and all later ones of the version."""
        batch = self._pop_batch(station, tag)
        if batch is None:
            return
        if queues := self._versions.get(batch.queue.key):
            for queue in queues.tensors:
                queue.joins = False
        for row in reversed(batch.rows):
            if not row.call.future.done():
                self._retry(row)
        self.wake()

    def _dispatch(self) -> None:
        if self._wake_up is not None:
            self._wake_up.cancel()
            self._wake_up = None
        for turns in self._rounds:
            passed_over = 0
            while turns and passed_over < len(turns):
                queue = turns.popleft()
                if not queue:
                    queue.has_turn = False
                    continue
                turns.append(queue)
                station = self._stations.find(queue)
                if station is None or (queue.limits.max_queue_delay_us and self._delays(queue)):
                    passed_over += 1
                    continue
                passed_over = 0
                self._send(station, queue)

    def _delays(self, queue: RowQueue) -> bool:
        """Whether a queue still waits for more rows; if so, it will be looked at again when it is due."""
        left_s = queue.due_at() - perf_counter()
        if left_s <= 0:
            return False
        if self._delay is None:
            self._delay = self._loop.call_later(left_s, self._end_delay)
        elif self._delay.when() > self._loop.time() + left_s:
            self._delay.cancel()
            self._delay = self._loop.call_later(left_s, self._end_delay)
        return True

    def _end_delay(self) -> None:
        self._delay = None
        self.wake()

    def _send(self, station: Station, queue: RowQueue) -> None:
        rows = queue.take()
        tag, size, tokens, padded_tokens, expected_s = queue.send(rows, station.runner)
        batch = Batch(queue, tag, station.serves[queue.key], rows, size, expected_s)
        self._stations.sent(station, batch)
        for row in rows:
            row.call.started = True
            self._room.count(row.call, -row.weight)
        self.counters.batches_by_rows[min(size, MAX_COUNTED_ROWS)] += 1
        for figures in (self.counters, self.figures[queue.key]):
            figures.batches += 1
            figures.rows += size
            figures.tokens += tokens
            figures.padded_tokens += padded_tokens

    def _pop_batch(self, station: Station, tag: int, output: Answers | None = None) -> Batch | None:
        """Return the batch that a reply is about.

        A worker that answers what it was not asked, or for more rows or fewer, is no longer ours: it is
        killed, and its batch is treated like any that a worker died on.
        """
        batch = station.running
        if batch is None or batch.tag != tag or (output is not None and not batch.queue.is_answer(output, batch.rows)):
            station.runner.kill()
            return None
        self._stations.done(station)
        return batch

    def _retry(self, row: Row) -> None:
        """Queue a row of a batch that came to nothing, before all others and to run alone."""
        row.call.queue.add_alone(row)
        self._room.count(row.call, row.weight)
        self.counters.retried_rows += 1
        if not row.call.queue.has_turn:
            row.call.queue.has_turn = True
            self._rounds[row.call.queue.priority].appendleft(row.call.queue)

    def _finish(self, call: Call, provider: str) -> None:
        if call.deadline <= self._loop.time():  # The answer was read before the alarm, by a loop that was kept waiting.
            return self.fail(call, DeadlineExceeded(started=True))
        answers = [row.answer for row in call.rows if row.answer is not None]
        if call.output is None:
            outputs = answers[0][0]
        else:
            try:
                outputs = {call.output: answers[0] if len(answers) == 1 else np.concatenate(answers)}
            except ValueError:  # The output's other dimensions depend on the batch: that is no answer per row.
                return self.fail(call, ModelFailed("rows of one call have outputs of different shapes"))
        spent_us = int((perf_counter() - call.queued_at) * 1e6)
        inferred = Inferred(outputs, max(0, spent_us - call.infer_us), call.infer_us, call.batch_rows, provider)
        self.abandon(call)
        return call.future.set_result(inferred)

    # -- time

    def _set_alarm(self, deadline: float) -> None:
        """Ring at the earliest deadline: one timer for all calls, moved only for an earlier one."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = deadline
        self._alarm = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._alarm = None
        now = self._loop.time()
        for call in [call for call in self._calls if call.deadline <= now]:
            self.fail(call, DeadlineExceeded(started=call.started))
        if self._calls:
            self._set_alarm(min(call.deadline for call in self._calls))
