"""Tests of proration: to the nano, however a month is cut."""

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from billing.proration import Span, given_back, part_of

MONTH = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
LENGTH = MONTH.ends_at - MONTH.starts_at
MOMENTS = st.integers(0, LENGTH // timedelta(microseconds=1)).map(lambda passed: MONTH.starts_at + timedelta(microseconds=passed))
FEES = st.integers(0, 10**18)


def test_a_third_of_a_month_costs_a_third() -> None:
    # 30 dollars a month of 30 days: 10 days are 10 dollars.
    part = Span(datetime(2026, 11, 11, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))

    assert part_of(30_000_000_000, MONTH, part) == 10_000_000_000


def test_the_whole_month_costs_the_fee() -> None:
    assert part_of(29_990_000_007, MONTH, MONTH) == 29_990_000_007


@given(fee=FEES, cuts=st.lists(MOMENTS, max_size=12))
def test_a_month_cut_anywhere_sums_up_to_the_fee(fee: int, cuts: list[datetime]) -> None:
    edges = [MONTH.starts_at, *sorted(cuts), MONTH.ends_at]

    parts = [part_of(fee, MONTH, Span(start, end)) for start, end in itertools.pairwise(edges)]

    assert sum(parts) == fee
    assert all(part >= 0 for part in parts)


@given(fee=FEES, start=MOMENTS, now=MOMENTS, used=st.integers(0, 2000), included=st.none() | st.integers(1, 1000))
def test_never_more_comes_back_than_was_paid_for_what_is_left(
    fee: int, start: datetime, now: datetime, used: int, included: int | None
) -> None:
    paid = Span(start, MONTH.ends_at)

    back = given_back(fee, MONTH, paid, now=now, used=used, included=included)

    assert 0 <= back <= part_of(fee, MONTH, Span(max(now, start), MONTH.ends_at)) <= part_of(fee, MONTH, paid)


def test_who_used_up_the_quota_gets_nothing_back() -> None:
    second_day = MONTH.starts_at + timedelta(days=1)

    assert given_back(30_000_000_000, MONTH, MONTH, now=second_day, used=1000, included=1000) == 0


def test_what_is_left_of_the_quota_bounds_what_comes_back() -> None:
    tenth = MONTH.starts_at + timedelta(days=9)

    # 21 of 30 days are left, but a tenth of the quota: 3 of 30 dollars.
    assert given_back(30_000_000_000, MONTH, MONTH, now=tenth, used=900, included=1000) == 3_000_000_000
    # A tenth was used, so time decides: 21 dollars.
    assert given_back(30_000_000_000, MONTH, MONTH, now=tenth, used=100, included=1000) == 21_000_000_000
