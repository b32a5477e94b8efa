from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from billing.ids import public_id
from marketplace.models import ApiKey, RequestLog

REQUESTS = "/v1/requests"


def test_a_call_is_found_by_its_request_id(api: Any, key: ApiKey, use: Callable[..., RequestLog]) -> None:
    call = use(key, units=11)

    shown = api.get(f"{REQUESTS}/{public_id('req', call.pk)}").json()

    assert (shown["model"], shown["version"], shown["status"], shown["units"]) == ("farebox/sentiment", 1, 200, 11)
    assert (shown["cost"], shown["currency"]) == ("0.000002200", "usd")
    assert shown["timing"] == {"auth_us": 40, "limit_us": 60, "queue_us": 100, "infer_us": 900, "total_us": 2000}
    assert shown["key"] == public_id("key", key.pk)


def test_the_log_shows_no_payload(api: Any, key: ApiKey, use: Callable[..., RequestLog]) -> None:
    call = use(key)
    RequestLog.objects.filter(pk=call.pk).update(reply="a private matter")

    assert "private matter" not in api.get(REQUESTS).content.decode()


def test_the_log_is_filtered(api: Any, key: ApiKey, use: Callable[..., RequestLog]) -> None:
    old, refused, good = use(key, at=datetime.now(UTC) - timedelta(days=2)), use(key), use(key)
    RequestLog.objects.filter(pk=refused.pk).update(status=402, code="budget_exceeded")

    def ids(**query: Any) -> list[str]:
        return [row["id"] for row in api.get(REQUESTS, query).json()["data"]]

    shown = {name: public_id("req", call.pk) for name, call in (("old", old), ("refused", refused), ("good", good))}
    assert ids() == [shown["good"], shown["refused"], shown["old"]]
    assert ids(status=402) == [shown["refused"]]
    assert ids(code="budget_exceeded") == [shown["refused"]]
    assert ids(until=(datetime.now(UTC) - timedelta(days=1)).isoformat()) == [shown["old"]]
    assert ids(since=(datetime.now(UTC) - timedelta(days=1)).isoformat(), status=200) == [shown["good"]]
    assert len(ids(model="farebox/sentiment")) == 3
    assert ids(model="farebox/other") == []
    assert len(ids(key=public_id("key", key.pk))) == 3
    assert ids(livemode="false") == []


def test_a_test_key_sees_test_calls_alone(make_api: Callable[..., Any], key: ApiKey, use: Callable[..., RequestLog]) -> None:
    api = make_api(livemode=False)
    live, test = use(key), use(ApiKey.objects.get(livemode=False))

    assert [row["id"] for row in api.get(REQUESTS).json()["data"]] == [public_id("req", test.pk)]
    assert api.get(f"{REQUESTS}/{public_id('req', live.pk)}").status_code == 404
