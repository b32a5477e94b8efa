"""What the gateway counts as calls pass: plain numbers in memory, made into text only when they are asked for.

One call costs six look-ups in lists and some additions (`docs/performance.md`); a metrics library's own counters
take a lock for each. Everything but the commits is changed on the event loop alone, so nothing is locked.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

# Upper bounds in seconds: from a rate limit's look-up (30 us) to the longest call (60 s). Each more is one more
# line per model and stage.
BOUNDS_S: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Observed(NamedTuple):
    """A histogram at one moment: how many lay in each interval of `BOUNDS_S` (and beyond), and their sum in seconds."""

    counts: Sequence[int]
    total_s: float


_BEYOND: Final = len(BOUNDS_S)
_SUM: Final = _BEYOND + 1
# A histogram while it is counted: one integer for each interval and for what lies beyond, then the sum in seconds.
# A list, not an object: a method call for each of a call's six durations would double what counting costs.
Counting: TypeAlias = "list[float]"


def new_histogram() -> Counting:
    """Return a histogram of nothing."""
    return [0] * _SUM + [0.0]


def observe(histogram: Counting, seconds: float) -> None:
    """Count one duration."""
    histogram[bisect_left(BOUNDS_S, seconds)] += 1
    histogram[_SUM] += seconds


def _read(histogram: Counting) -> Observed:
    return Observed([int(count) for count in histogram[:_SUM]], histogram[_SUM])


class _Counted:
    """What is counted for one version: outcomes of its own, durations shared with the model's other versions."""

    __slots__ = ("answered", "others", "stages", "total")

    def __init__(self, stages: dict[bytes, Counting]) -> None:
        self.answered = 0
        self.others: Counter[str] = Counter()
        self.stages = stages
        self.total = stages.setdefault(b"total", new_histogram())


class CallCounts(NamedTuple):
    """All counts of this process at one moment, since its start."""

    outcomes: Sequence[tuple[str, str, str, int]]  # Model, version, outcome, calls.
    stages: Sequence[tuple[str, str, Observed]]  # Model, stage, durations.
    refused: Sequence[tuple[str, int]]  # The problem's code, calls.
    units: int
    charged_nanos: int
    commits: Observed


class CallMetrics:
    """Counts the calls of this process.

    Models and versions are counted by name only once they were found: what strangers ask for is not, so
    that nobody can make the list long.
    """

    def __init__(self) -> None:
        self._versions: dict[tuple[str, int], _Counted] = {}
        self._stages: dict[str, dict[bytes, Counting]] = {}
        self._refused: Counter[str] = Counter()
        self._units = 0
        self._charged_nanos = 0
        self._commits = new_histogram()  # Changed on the commit thread, and there alone.

    def answered(  # noqa: PLR0917 (the hot path: keywords cost 0.1 us more)
        self, model: str, version: int, stages: Iterable[tuple[bytes, float]], total_s: float, units: int, charge_nanos: int
    ) -> None:
        """Count a call that ran and was settled.

        Args:
            model: "owner/name".
            version: Its number.
            stages: Name and seconds of each stage, as in Server-Timing.
            total_s: Seconds from the request's first line to its reply.
            units: Of its price.
            charge_nanos: 0 for a test key's call.
        """
        counted = self._versions.get((model, version)) or self._add(model, version)
        counted.answered += 1
        histograms = counted.stages
        for name, seconds in stages:
            histogram = histograms.get(name) or histograms.setdefault(name, new_histogram())
            histogram[bisect_left(BOUNDS_S, seconds)] += 1  # `observe`, without its call.
            histogram[_SUM] += seconds
        histogram = counted.total
        histogram[bisect_left(BOUNDS_S, total_s)] += 1
        histogram[_SUM] += total_s
        self._units += units
        self._charged_nanos += charge_nanos

    def ended(self, model: str, version: int, outcome: str) -> None:
        """Count a call that ended otherwise; without a model (`""`, 0) where none was found.

        Args:
            model: "owner/name".
            version: Its number.
            outcome: "replayed", "accepted", "estimated", "described", "refused", "failed" or "cancelled".
        """
        (self._versions.get((model, version)) or self._add(model, version)).others[outcome] += 1

    def refused(self, code: str) -> None:
        """Count a refusal by its problem's code."""
        self._refused[code] += 1

    def committed(self, seconds: float) -> None:
        """Count a group commit. Called on the commit thread."""
        observe(self._commits, seconds)

    def read(self) -> CallCounts:
        """Return all counts as of now. Called on the event loop; a thread may then take its time with them."""
        outcomes = [
            (model, str(number or ""), outcome, calls)
            for (model, number), counted in self._versions.items()
            for outcome, calls in (("answered", counted.answered), *counted.others.items())
            if calls
        ]
        stages = [(model, name.decode(), _read(counting)) for model, named in self._stages.items() for name, counting in named.items()]
        return CallCounts(outcomes, stages, list(self._refused.items()), self._units, self._charged_nanos, _read(self._commits))

    def _add(self, model: str, version: int) -> _Counted:
        added = self._versions[model, version] = _Counted(self._stages.setdefault(model, {}) if model else {})
        return added
