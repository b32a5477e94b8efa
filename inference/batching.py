"""Which waiting rows run together. Pure: no clock, no queue, no sockets.

ONNX Runtime's LSTM computes padding in full, so a batch costs its longest row x what a time step
costs for so many rows. Running rows together spreads a step's fixed part and pays for padding.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import inf, isfinite
from typing import Final, Self

# No batch has more rows: costs are worked out up to here when a version is loaded.
MAX_BATCH_ROWS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How a version's rows wait, and how many run together."""

    max_rows: int = 32
    max_tokens: int = 4_096  # Rows x longest; a row longer than this runs alone.
    # Longest the oldest row waits for others although a worker is free, in microseconds.
    max_queue_delay_us: int = 0
    # Most rows of the version that wait; None for as many as the engine has room for.
    max_queue_rows: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits under which nothing could run."""
        if not 1 <= self.max_rows <= MAX_BATCH_ROWS or self.max_tokens < 1 or self.max_queue_delay_us < 0:
            msg = f"no batch fits {self}"
            raise ValueError(msg)
        if self.max_queue_rows is not None and self.max_queue_rows < 1:
            msg = f"no row may wait by {self}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class StepCosts:
    """What one time step of a batch costs, by the batch's rows; the unit does not matter.

    Not a straight line: on the flagship LSTM a step takes 117 us for 1 row, 152 for 2, 222 for 4,
    476 for 8 and 900 for 16 (2 cores, AVX-512), so that four rows are the cheapest. Each worker
    measures a model when it loads it.
    """

    of_rows: tuple[float, ...]  # of_rows[0] is for one row.
    # How much longer than a row a batch may be before the row's share of it costs more than running alone.
    reach: float = field(init=False)
    # least_added[n - 1]: the least that one more row adds to a step of n rows or more.
    least_added: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Derive what `next_batch` prunes by."""
        if not self.of_rows or not all(isfinite(cost) and cost > 0 for cost in self.of_rows):
            msg = f"not costs: {self.of_rows}"
            raise ValueError(msg)
        share = min(cost / rows for rows, cost in enumerate(self.of_rows, start=1))
        object.__setattr__(self, "reach", self.of_rows[0] / share)
        added = [after - before for before, after in pairwise(self.of_rows)]
        from_the_end = list(accumulate(reversed(added), min, initial=inf))
        object.__setattr__(self, "least_added", tuple(reversed(from_the_end)))

    @classmethod
    def from_points(cls, points: Mapping[int, float], *, max_rows: int) -> Self:
        """Return the costs of 1 to `max_rows` rows, on straight lines through the measured points.

        Args:
            points: Rows -> cost of a step, 1 among them.
            max_rows: How far to go; beyond the last point, costs grow with the rows.

        Raises:
            ValueError: the points are not positive numbers for positive rows, or 1 is missing.
        """
        measured = sorted(points)
        if not measured or measured[0] != 1:
            msg = f"no cost of one row in {points}"
            raise ValueError(msg)
        costs = []
        for rows in range(1, max_rows + 1):
            at = bisect_left(measured, rows)
            if at == len(measured):
                costs.append(points[measured[-1]] * rows / measured[-1])
            elif measured[at] == rows:
                costs.append(points[rows])
            else:
                before, after = measured[at - 1], measured[at]
                part = (rows - before) / (after - before)
                costs.append(points[before] + part * (points[after] - points[before]))
        return cls(tuple(costs))


def next_batch(lengths: Sequence[int], opener: int, *, limits: BatchLimits, costs: StepCosts) -> slice:
    """Choose the rows that run with the opener: neighbours in length, at the least cost per useful token.

    Simulated on the costs above and the review lengths of the benchmark, with 32 callers and two
    workers, this answers 515 calls/s; one by one 365, by a straight line of costs 498, each batch
    the best of the whole queue some 3 % more, but long rows then wait twice as long at p99.

    Args:
        lengths: The waiting rows' lengths, ascending, each >= 1.
        opener: The position of the row that must leave now.
        limits: Bounds; `max_tokens` gives way to an opener that alone exceeds it.
        costs: Of up to `limits.max_rows` rows.

    Returns:
        The positions that leave together; the opener is among them. Found in 3 us when 8 rows of the
        benchmark's lengths wait, 11 us when 32 do, 42 us when 512 do; never more than `max_rows` squared steps.
    """
    of_rows, least_added, max_rows = costs.of_rows, costs.least_added, limits.max_rows
    least, best = of_rows[0], slice(opener, opener + 1)
    longest_useful = lengths[opener] * costs.reach
    useful_from_opener = 0
    for last in range(opener, min(len(lengths), opener + max_rows)):
        longest = lengths[last]
        fitting = min(max_rows, limits.max_tokens // longest)
        rows = last - opener + 1
        if longest > longest_useful or rows > fitting:
            break
        useful_from_opener += longest
        useful, first = useful_from_opener, opener
        while True:
            cost = longest * of_rows[rows - 1] / useful
            if cost <= least:
                least, best = cost, slice(first, last + 1)
            # Ever shorter rows follow: once one adds more than the best mean, all of them do.
            if first == 0 or rows == fitting or longest * least_added[rows - 1] >= least * lengths[first - 1]:
                break
            first -= 1
            rows += 1
            useful += lengths[first]
    return best
