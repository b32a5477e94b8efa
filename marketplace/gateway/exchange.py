"""One request on its way through the line: what is known of it so far, for replies and the log."""

import time
from datetime import UTC, datetime
from typing import Final

from billing.pricing import Terms
from marketplace.gateway.callers import Caller
from marketplace.gateway.limits import RateState
from marketplace.gateway.replies import Headers, rate_headers
from marketplace.gateway.request import Request
from marketplace.gateway.routing import Route
from marketplace.gateway.versions import ServedVersion

# A revoked key fails within a second everywhere: 0.25 s of it are the change feed's.
_LONG_S: Final = 0.25


class Exchange:
    """A request with what each step found out. A refusal in any step leaves the rest unset."""

    __slots__ = (
        "_lap",
        "cache",
        "caller",
        "charge_nanos",
        "occurred_at",
        "rates",
        "request",
        "route",
        "stages",
        "terms",
        "units",
        "version",
    )

    def __init__(self, request: Request) -> None:
        self.request = request
        self.route: Route | None = None
        self.caller: Caller | None = None
        self.version: ServedVersion | None = None
        self.terms: Terms | None = None
        self.units = 0
        self.charge_nanos = 0
        self.cache: bytes | None = None  # "hit" or "miss", where the caller's answers are kept.
        self.rates: tuple[RateState, RateState] | None = None  # Of the key, of the organization.
        self.occurred_at = datetime.now(UTC)
        self.stages: list[tuple[bytes, float]] = []  # Name and seconds, in order.
        self._lap = request.started

    def end_stage(self, name: bytes) -> None:
        """Note that a stage ends now; the next begins."""
        now = time.perf_counter()
        self.stages.append((name, now - self._lap))
        self._lap = now

    def add_stages(self, *stages: tuple[bytes, float]) -> None:
        """Note stages that were measured elsewhere, in seconds; the next begins now."""
        self.stages.extend(stages)
        self._lap = time.perf_counter()

    @property
    def served(self) -> tuple[str, int]:
        """The model's path and the version's number, once they were found; else nothing, and 0."""
        return (self.version.model_path, self.version.number) if self.version else ("", 0)

    def has_waited(self) -> bool:
        """Whether so much time has passed that what is known of the caller must be asked again."""
        return time.perf_counter() - self.request.started > _LONG_S

    def rate_headers(self) -> Headers:
        """Return the RateLimit headers, once the limits were asked."""
        return rate_headers(*self.rates) if self.rates else []

    def elapsed_us(self) -> int:
        """Return microseconds since the request came."""
        return int((time.perf_counter() - self.request.started) * 1e6)
