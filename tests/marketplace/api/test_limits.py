from collections.abc import Callable
from typing import Any

import pytest

from marketplace.api import limits
from marketplace.gateway.limits import RateLimiter

ORGANIZATION = "/v1/organization"


@pytest.fixture(autouse=True)
def _fresh_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count anew, at a time that stands still."""
    monkeypatch.setattr(limits, "_keys", RateLimiter(policy="key", clock=lambda: 0.0))
    monkeypatch.setattr(limits, "_addresses", RateLimiter(policy="address", clock=lambda: 0.0))


def test_a_key_is_stopped_at_its_own_rate_and_told_when_to_return(make_api: Callable[..., Any]) -> None:
    api = make_api(rate_per_minute=3)

    replies = [api.get(ORGANIZATION) for _ in range(4)]

    assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
    assert replies[0].headers["RateLimit-Policy"] == '"key";q=3;w=60'
    assert replies[0].headers["RateLimit"].startswith('"key";r=2;')
    refused = replies[3]
    assert (refused.json()["code"], refused.headers["Retry-After"]) == ("rate_limited", "20")
    assert (refused.json()["limit"], refused.json()["policy"]) == (3, "key")


def test_one_keys_rate_is_not_anothers(make_api: Callable[..., Any], api: Any) -> None:
    slow = make_api(rate_per_minute=1)
    assert [slow.get(ORGANIZATION).status_code for _ in range(2)] == [200, 429]

    assert api.get(ORGANIZATION).status_code == 200


def test_an_address_cannot_try_keys_without_end(client: Any, db: None) -> None:
    def try_one() -> int:
        status: int = client.post("/v1/keys/revoke", {"key": "x"}, content_type="application/json").status_code
        return status

    assert {try_one() for _ in range(limits.OPEN_RATE_PER_MINUTE)} == {401}
    assert try_one() == 429
