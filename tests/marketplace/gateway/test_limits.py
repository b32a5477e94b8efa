"""Rates and concurrency, against worked examples and under any spacing of calls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.errors import RateLimited, TooManyAtOnce
from marketplace.gateway.limits import WINDOW_S, ConcurrencyLimiter, RateLimiter


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_fresh_caller_may_use_the_whole_limit_at_once_and_not_one_call_more() -> None:
    limiter = RateLimiter(policy="key", clock=Clock())

    states = [limiter.admit("caller", limit=60) for _ in range(60)]

    assert [state.remaining for state in states] == list(range(59, -1, -1))
    with pytest.raises(RateLimited) as refused:
        limiter.admit("caller", limit=60)
    assert refused.value.retry_after_s == pytest.approx(1.0)


def test_one_interval_later_one_call_passes_again() -> None:
    clock = Clock()
    limiter = RateLimiter(policy="key", clock=clock)
    for _ in range(60):
        limiter.admit("caller", limit=60)

    clock.now += 1.0
    limiter.admit("caller", limit=60)

    with pytest.raises(RateLimited):
        limiter.admit("caller", limit=60)


def test_a_refused_call_is_not_counted() -> None:
    clock = Clock()
    limiter = RateLimiter(policy="key", clock=clock)
    limiter.admit("caller", limit=1)
    for _ in range(100):
        with pytest.raises(RateLimited):
            limiter.admit("caller", limit=1)

    clock.now += 60.0
    assert limiter.admit("caller", limit=1).remaining == 0


def test_callers_do_not_share_a_limit() -> None:
    limiter = RateLimiter(policy="key", clock=Clock())
    limiter.admit("one", limit=1)

    assert limiter.admit("two", limit=1).remaining == 0


@given(limit=st.integers(1, 200), gaps=st.lists(st.floats(0, 5), max_size=400))
def test_no_window_passes_more_than_the_limit_beyond_what_refilled(limit: int, gaps: list[float]) -> None:
    clock = Clock()
    limiter = RateLimiter(policy="key", clock=clock)
    admitted: list[float] = []
    for gap in gaps:
        clock.now += gap
        try:
            limiter.admit("caller", limit=limit)
        except RateLimited:
            continue
        admitted.append(clock.now)

    for index, since in enumerate(admitted):
        span = admitted[-1] - since
        assert len(admitted) - index <= limit + span * limit / WINDOW_S + 1e-6


def test_a_place_that_was_left_can_be_taken_again() -> None:
    limiter = ConcurrencyLimiter(limit=2)
    limiter.enter("organization")
    limiter.enter("organization")
    with pytest.raises(TooManyAtOnce):
        limiter.enter("organization")

    limiter.leave("organization")
    limiter.enter("organization")
