"""What a call may ask in its headers, and the site's limits on calls."""

import asyncio
from dataclasses import dataclass
from typing import Final, NamedTuple

from billing.errors import AmountMalformed
from billing.money import Nanos, parse_amount, to_decimal_string
from marketplace.errors import HeaderInvalid, MaxCostExceeded
from marketplace.gateway.request import Request

MAX_IDEMPOTENCY_KEY: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """The site's limits, handed in once at the start."""

    max_body_bytes: int
    body_timeout_s: float
    max_rows: int
    max_characters: int
    default_timeout_ms: int
    max_timeout_ms: int
    organization_concurrency: int


class CallOptions(NamedTuple):
    """One call's own wishes."""

    deadline: float  # Event loop time, s.
    max_cost: Nanos | None

    def check_cost(self, highest: Nanos) -> None:
        """Refuse a call that could cost more than its X-Max-Cost.

        Raises:
            MaxCostExceeded: it could; nothing was held.
        """
        if self.max_cost is not None and highest > self.max_cost:
            raise MaxCostExceeded(limit=to_decimal_string(self.max_cost), asked=to_decimal_string(highest))


def read_options(request: Request, settings: GatewaySettings, *, timeout_us: int | None) -> CallOptions:
    """Read X-Timeout-Ms (milliseconds) and X-Max-Cost (decimal currency units).

    Args:
        request: Whose headers.
        settings: The site's default and longest time.
        timeout_us: What the body asks for, in microseconds, cut to the site's longest; None or 0 is nothing.
            Of a header and a body that both ask, the shorter counts.

    Raises:
        HeaderInvalid: one of them cannot be read.
    """
    timeout_ms: float | None = request.header_int(b"x-timeout-ms", minimum=1, maximum=settings.max_timeout_ms)
    if timeout_us:
        timeout_ms = min(timeout_us / 1000, timeout_ms or settings.max_timeout_ms)
    timeout_ms = timeout_ms or settings.default_timeout_ms
    max_cost: Nanos | None = None
    if (text := request.header(b"x-max-cost")) is not None:
        try:
            max_cost = parse_amount(text)
        except AmountMalformed:
            message = "x-max-cost must be a decimal number of currency units, such as 0.002."
            raise HeaderInvalid(message, param="x-max-cost") from None
    return CallOptions(deadline=asyncio.get_running_loop().time() + timeout_ms / 1000, max_cost=max_cost)


def read_idempotency_key(request: Request) -> str:
    """Return the Idempotency-Key, bare or quoted (IETF draft 06).

    Raises:
        HeaderInvalid: it is empty, too long or not printable ASCII.
    """
    key = (request.header(b"idempotency-key") or "").strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not (0 < len(key) <= MAX_IDEMPOTENCY_KEY and key.isascii() and key.isprintable()):
        message = f"idempotency-key must be 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters."
        raise HeaderInvalid(message, param="idempotency-key")
    return key
