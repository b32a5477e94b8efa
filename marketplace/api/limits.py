"""Rate limits of the REST API: each key's own, and each address's where no key is asked for.

Counted in memory and apart from the gateway's, so that a script that reads its usage too often
does not stop its calls. They protect capacity; money is held by budgets.
"""

from threading import Lock
from typing import Final

from rest_framework.request import Request

from marketplace.api.authentication import client_address, key_of
from marketplace.gateway.callers import caller_of
from marketplace.gateway.limits import WINDOW_S, RateLimiter, RateState

# Requests per minute of an address without a key. Whoever revokes leaked keys needs few.
OPEN_RATE_PER_MINUTE: Final = 60

_lock: Final = Lock()  # Django's threads share the limiters, which the gateway's event loop need not guard.
_keys: Final = RateLimiter(policy="key")
_addresses: Final = RateLimiter(policy="address")


def admit_key(request: Request) -> RateState:
    """Count a request against its key's rate limit.

    Raises:
        RateLimited: the limit is used up.
    """
    key = key_of(request)
    with _lock:
        return _keys.admit(key.pk, limit=caller_of(key).key_rate)


def admit_address(request: Request) -> RateState:
    """Count a request against its address's rate limit.

    Raises:
        RateLimited: the limit is used up.
    """
    with _lock:
        return _addresses.admit(client_address(request._request), limit=OPEN_RATE_PER_MINUTE)  # noqa: SLF001 (DRF names it so)


def rate_headers(policy: str, state: RateState) -> dict[str, str]:
    """Return RateLimit-Policy and RateLimit (IETF httpapi draft 10)."""
    return {
        "RateLimit-Policy": f'"{policy}";q={state.limit};w={WINDOW_S}',
        "RateLimit": f'"{policy}";r={state.remaining};t={state.reset_s}',
    }
