"""What waits for one version: fair between tenants, and at hand by length (rows) or by form (tensors)."""

import asyncio
import enum
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from inference.arrays import Arrays
from inference.batching import BatchLimits, StepCosts, next_batch
from inference.counters import VersionFigures
from inference.errors import InferenceError, InvalidInput, ModelFailed

# What a worker answers: the rows' outputs as one array, or of calls with tensors each one's by name.
Answers: TypeAlias = npt.NDArray[Any] | list[dict[str, npt.NDArray[Any]]]

# Tensors that wait count as one row for each 64 KiB, so that 1,024 waiting rows are at most 64 MiB.
_BYTES_PER_ROW = 2**16


class Runner(Protocol):
    """What runs batches, in order, one at a time."""

    def run(self, version: int, rows: Sequence[npt.NDArray[np.int64]]) -> int:
        """Start a batch of a pipeline's rows, return its tag. The answer is one array, first axis = rows."""

    def run_tensors(self, version: int, outputs: Sequence[str], calls: Sequence[Arrays]) -> int:
        """Start a batch of calls with named tensors, return its tag.

        The answer is a list of each call's outputs, those named, or all where none is.
        """

    def kill(self) -> None:
        """End it, whatever it is doing."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """A call's answer."""

    # Of a pipeline's rows: the first axis is the rows, in order. Of tensors: as the model gave them; texts,
    # sequences and maps are object arrays of `bytes` (`signature.TensorSpec`).
    outputs: dict[str, npt.NDArray[Any]]
    queue_us: int  # From `infer` to the answer, less the run: waiting and the way to the worker and back.
    infer_us: int  # How long the call's batch ran; of several batches, the longest.
    batch_rows: int  # Rows of that batch, other callers' included.
    provider: str  # "cpu" or "cuda", as the session itself reports.


@dataclass(slots=True, eq=False)
class Call:
    """One `infer` that is not answered yet."""

    output: str | None  # The name its answer goes by; None for tensors, which have their own.
    tenant: Hashable
    deadline: float  # Seconds of the loop's clock.
    queued_at: float  # Seconds of `perf_counter`: uvloop's clock counts whole milliseconds.
    future: "asyncio.Future[Inferred]"
    queue: "RowQueue | TensorQueue"
    unanswered: int
    rows: "list[Row]" = field(default_factory=list)
    infer_us: int = 0
    batch_rows: int = 0
    started: bool = False


@dataclass(slots=True, eq=False)
class Row:
    """What is queued and run as one: a row of a pipeline's call, or all of a call with tensors."""

    call: Call
    inputs: Any  # The row's ids, int64; or `Tensors`.
    length: int  # Of the ids; of tensors, their form's number.
    waiting: bool = True
    alone: bool = False  # Its batch failed, so it runs in one of its own.
    lost_workers: int = 0
    weight: int = 1  # Waiting rows that it counts as.
    answer: Any = None  # A slice of `Answers`: one row of the output, or a list of one call's.


@dataclass(frozen=True, slots=True)
class Tensors:
    """A call's inputs by name, checked against the version's signature."""

    arrays: Arrays
    outputs: tuple[str, ...]  # The names wanted; none for all.
    rows: int | None  # The first dimension that all inputs share; None where they do not.

    def __len__(self) -> int:
        """Return 1: a call with tensors is queued as one row."""
        return 1

    @property
    def weight(self) -> int:
        """How many waiting rows it counts as."""
        return 1 + sum(array.nbytes for array in self.arrays.values()) // _BYTES_PER_ROW

    def form(self) -> Hashable:
        """Return what calls must have in common to run together."""
        return self.outputs, frozenset((name, array.dtype.str, array.shape[1:]) for name, array in self.arrays.items())


def weight_of(rows: Sequence[npt.NDArray[Any]] | Sequence[Tensors]) -> int:
    """Return how many waiting rows each row of a call counts as: ids as one, tensors and images by their bytes."""
    first = rows[0]
    if isinstance(first, Tensors):
        return first.weight
    return 1 if first.ndim == 1 else 1 + max(row.nbytes for row in rows if not isinstance(row, Tensors)) // _BYTES_PER_ROW


def failure_of(row: Row, detail: str | None) -> InferenceError:
    """Return the error of a row that failed alone: the model's, or (None) that it is an image that cannot be decoded."""
    place = row.call.rows.index(row)
    if detail is not None:
        return ModelFailed(detail, row=place)
    param = f"input_data[{place}]" if len(row.call.rows) > 1 else "input_data"
    return InvalidInput(param, "This image cannot be decoded.", reason="undecodable")


class Sent(NamedTuple):
    """A batch as it was sent to a worker."""

    tag: int
    size: int  # Rows of the model's batch: of calls with tensors, all of their rows.
    tokens: int
    padded_tokens: int  # Rows x longest.
    expected_s: float  # How long it will run on an idle core, by what the version's steps cost; 0 where that is not known.


class Priority(enum.IntEnum):
    """Who goes first: a batch job's rows run only where no live call waits for a worker."""

    LIVE = 0
    BATCH = 1


class RowQueue:
    """The rows that wait for one version's pipeline, in two orders: by turn of their tenants, and by length."""

    def __init__(self, key: str, *, number: int, costs: StepCosts, limits: BatchLimits, priority: Priority = Priority.LIVE) -> None:
        """Open an empty queue.

        Args:
            key: The name callers know the version by.
            number: The one workers know it by.
            costs: What its time steps cost.
            limits: Until a call brings others.
            priority: Of all its rows.
        """
        self.key = key
        self.number = number
        self.limits = limits
        self.priority = priority
        self.waiting_rows = 0  # Kept by the dispatcher: by weight.
        self.has_turn = False  # Kept by the dispatcher: whether the queue is in the round of versions.
        self._costs = costs
        # Ascending, kept beside each other: bisect runs in C on plain integers.
        self._lengths: list[int] = []
        self._rows: list[Row] = []
        self._tenants: dict[Hashable, deque[Row]] = {}
        self._turns: deque[Hashable] = deque()
        self._alone: deque[Row] = deque()

    def __len__(self) -> int:
        """Return the number of waiting rows."""
        return len(self._rows) + len(self._alone)

    def add(self, row: Row) -> None:
        """Queue a row behind its tenant's others."""
        at = bisect_right(self._lengths, row.length)
        self._lengths.insert(at, row.length)
        self._rows.insert(at, row)
        tenant = row.call.tenant
        queued = self._tenants.get(tenant)
        if queued is None:
            queued = self._tenants[tenant] = deque()
            self._turns.append(tenant)
        queued.append(row)

    def add_alone(self, row: Row) -> None:
        """Queue a row before all others, to run in a batch of its own."""
        row.waiting = row.alone = True
        self._alone.appendleft(row)

    def discard(self, row: Row) -> None:
        """Take a row out, if it waits here."""
        if not row.waiting:
            return
        row.waiting = False
        if row.alone:
            self._alone.remove(row)
        else:
            self._remove(self._position(row))

    def due_at(self) -> float:
        """Return from when on a batch may leave, in seconds of `perf_counter`."""
        if self._alone or len(self._rows) >= self.limits.max_rows:
            return 0.0
        return min(row.call.queued_at for row in self._rows) + self.limits.max_queue_delay_us / 1e6

    def take(self) -> list[Row]:
        """Take the rows of the next batch: the oldest row of the tenant whose turn it is, and its like in length."""
        if self._alone:
            row = self._alone.popleft()
            row.waiting = False
            return [row]
        chosen = self._choose(self._position(self._next_opener()))
        batch = self._rows[chosen]
        for row in batch:
            row.waiting = False
        self._remove(chosen)
        return batch

    def send(self, rows: list[Row], runner: Runner) -> "Sent":
        """Start a batch."""
        lengths = [row.length for row in rows]
        size, longest = len(rows), max(lengths)
        tag = runner.run(self.number, [row.inputs for row in rows])
        return Sent(tag, size, sum(lengths), longest * size, self._costs.of_rows[size - 1] * longest / 1e6)

    def is_answer(self, output: Answers, rows: list[Row]) -> bool:
        """Whether a worker's output is one for each of these rows."""
        return not isinstance(output, list) and len(output) == len(rows)

    def _choose(self, opener: int) -> slice:
        """Return the positions that leave together with the opener's."""
        return next_batch(self._lengths, opener, limits=self.limits, costs=self._costs)

    def _next_opener(self) -> Row:
        """Return the oldest waiting row of the next tenant; a tenant without rows drops out of the round."""
        while True:
            tenant = self._turns.popleft()
            queued = self._tenants[tenant]
            # Rows that left in other tenants' batches, or were cancelled, are cleared away only here.
            while queued and (queued[0].alone or not queued[0].waiting):
                queued.popleft()
            if queued:
                self._turns.append(tenant)
                return queued[0]
            del self._tenants[tenant]

    def _position(self, row: Row) -> int:
        start = bisect_left(self._lengths, row.length)
        return self._rows.index(row, start)

    def _remove(self, at: int | slice) -> None:
        del self._lengths[at]
        del self._rows[at]
        if not self._rows:  # An idle queue keeps no row alive that has long left it.
            self._tenants.clear()
            self._turns.clear()


class TensorQueue(RowQueue):
    """The calls with tensors that wait for one version: by turn of their tenants, and by what may run together.

    A row's `length` is the number of its form here: equal forms lie side by side, as equal lengths do.
    """

    def __init__(
        self, key: str, *, number: int, joins: bool, outputs: Iterable[str], limits: BatchLimits, priority: Priority = Priority.LIVE
    ) -> None:
        """Open an empty queue.

        Args:
            key: The name callers know the version by.
            number: The one workers know it by.
            joins: Whether calls of one form may run together.
            outputs: The names of all outputs.
            limits: Until a call brings others.
            priority: Of all its rows.
        """
        super().__init__(key, number=number, costs=StepCosts((1.0,)), limits=limits, priority=priority)
        self.joins = joins
        self._outputs = set(outputs)
        self._forms: dict[Hashable, int] = {}
        self._next_form = 0

    def add(self, row: Row) -> None:
        """Queue a call behind its tenant's others, and beside those of its form."""
        if not self._rows:
            self._forms.clear()  # Callers make up shapes: only those that wait are remembered.
        tensors: Tensors = row.inputs
        form = tensors.form() if self.joins and tensors.rows is not None else None
        number = self._forms.get(form, self._next_form) if form is not None else self._next_form
        if number == self._next_form:
            self._next_form += 1
            if form is not None:
                self._forms[form] = number
        row.length = number
        super().add(row)

    def send(self, rows: list[Row], runner: Runner) -> "Sent":
        """Start a batch; it has no tokens, and what it costs is not measured."""
        first: Tensors = rows[0].inputs
        tag = runner.run_tensors(self.number, first.outputs, [row.inputs.arrays for row in rows])
        return Sent(tag, sum(map(_rows_of, rows)), 0, 0, 0.0)

    def is_answer(self, output: Answers, rows: list[Row]) -> bool:
        """Whether a worker's output holds what each of these calls wants."""
        wanted = set(rows[0].inputs.outputs) or self._outputs
        return isinstance(output, list) and len(output) == len(rows) and all(set(answer) == wanted for answer in output)

    def _choose(self, opener: int) -> slice:
        """Return the positions of the opener's form, later calls first, as far as the rows go."""
        form = self._lengths[opener]
        first = last = opener
        room = self.limits.max_rows - _rows_of(self._rows[opener])
        while self.joins and last + 1 < len(self._rows) and self._lengths[last + 1] == form:
            room -= _rows_of(self._rows[last + 1])
            if room < 0:
                return slice(first, last + 1)
            last += 1
        while self.joins and first > 0 and self._lengths[first - 1] == form:
            room -= _rows_of(self._rows[first - 1])
            if room < 0:
                break
            first -= 1
        return slice(first, last + 1)


def _rows_of(row: Row) -> int:
    tensors: Tensors = row.inputs
    return tensors.rows or 1


class VersionQueues(NamedTuple):
    """One version's queues, each kind by priority, and what it did."""

    rows: list[RowQueue]  # Of its pipeline; none without one.
    tensors: list[TensorQueue]
    figures: VersionFigures

    def all(self) -> Iterator[RowQueue]:
        """Yield every queue."""
        yield from self.rows
        yield from self.tensors
