"""Rate and concurrency limits in memory: GCRA per key and per organization.

Each gateway process counts on its own; several processes admit up to that many times the rate.
Rates protect capacity, not money: budgets are exact.
"""

import time
from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

from marketplace.errors import RateLimited, TooManyAtOnce

WINDOW_S: Final = 60
# Callers remembered; the oldest are dropped, and by then their limits have refilled or will seem to.
_MAX_REMEMBERED: Final = 100_000


class RateState(NamedTuple):
    """What is left of a rate limit, for the RateLimit headers (IETF httpapi draft 10)."""

    limit: int
    remaining: int
    reset_s: int


class RateLimiter:
    """A generic cell rate algorithm: `limit` calls at once, then evenly over 60 seconds.

    Source: ITU-T I.371, as "virtual scheduling": one stored time for each caller, no counters
    to reset and no boundary at which twice the limit passes.
    """

    def __init__(self, *, policy: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._arrival: dict[Hashable, float] = {}  # Theoretical arrival time of the next call, s.

    def admit(self, caller: Hashable, *, limit: int) -> RateState:
        """Count one call.

        Args:
            caller: Whose limit it is.
            limit: Calls per 60 seconds, > 0.

        Raises:
            RateLimited: the limit is used up; the call was not counted.
        """
        now = self._clock()
        interval = WINDOW_S / limit
        arrival = max(self._arrival.get(caller, now), now)
        ahead = arrival - now  # Seconds of the window that are used already.
        if ahead + interval > WINDOW_S + 1e-9:
            raise RateLimited(policy=self._policy, limit=limit, window_s=WINDOW_S, retry_after_s=ahead + interval - WINDOW_S)
        if caller not in self._arrival and len(self._arrival) >= _MAX_REMEMBERED:
            del self._arrival[next(iter(self._arrival))]
        self._arrival[caller] = arrival + interval
        used = ahead + interval
        return RateState(limit=limit, remaining=int((WINDOW_S - used) / interval + 1e-9), reset_s=int(used) + 1)


class ConcurrencyLimiter:
    """Counts each organization's calls in flight."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._in_flight: dict[Hashable, int] = {}

    def enter(self, caller: Hashable) -> None:
        """Take a place.

        Raises:
            TooManyAtOnce: there is none; nothing was taken.
        """
        count = self._in_flight.get(caller, 0)
        if count >= self._limit:
            raise TooManyAtOnce(limit=self._limit)
        self._in_flight[caller] = count + 1

    def leave(self, caller: Hashable) -> None:
        """Give a place back."""
        count = self._in_flight[caller] - 1
        if count:
            self._in_flight[caller] = count
        else:
            del self._in_flight[caller]
