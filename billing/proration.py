"""What a part of a month costs, and what of it is given back. Pure: no clock, no database.

A part's cost is what has accrued at its end less what had at its beginning, each rounded down to the
nano. So a month that is split anywhere, in however many parts, sums up to the whole, to the nano.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from billing.money import Nanos

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open stretch of time: from `starts_at` up to, and without, `ends_at`."""

    starts_at: datetime
    ends_at: datetime


def part_of(whole: int, month: Span, part: Span) -> int:
    """Return what of a month's amount falls into a part of it: nanos of a fee, units of a quota.

    Args:
        whole: The amount of the whole month, >= 0.
        month: The whole.
        part: Cut to the month where it reaches beyond.
    """
    return _accrued(whole, month, part.ends_at) - _accrued(whole, month, part.starts_at)


def given_back(fee_nanos: int, month: Span, paid: Span, *, now: datetime, used: int, included: int | None) -> Nanos:
    """Return what a plan that is left at a moment gives back of the fee that was paid for a stretch of a month.

    The part of the time that is left, but never more than the part of the quota that is left: who
    used up the quota on the second day had all that was paid for.

    Args:
        fee_nanos: The fee of the whole month.
        month: The whole.
        paid: What was paid for.
        now: When the plan is left.
        used: Units used in `paid`.
        included: Units included in `paid`; None: without limit, so the time alone counts.
    """
    by_time = part_of(fee_nanos, month, Span(max(now, paid.starts_at), paid.ends_at))
    if not included:
        return Nanos(by_time)
    by_quota = part_of(fee_nanos, month, paid) * max(0, included - used) // included
    return Nanos(min(by_time, by_quota))


def _accrued(whole: int, month: Span, until: datetime) -> int:
    length = (month.ends_at - month.starts_at) // _MICROSECOND
    passed = (until - month.starts_at) // _MICROSECOND
    return whole * min(max(passed, 0), length) // length
