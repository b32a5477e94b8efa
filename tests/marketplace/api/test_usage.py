import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from billing.ids import public_id
from marketplace.models import ApiKey

USAGE = "/v1/usage"
DAY = {"since": "2026-11-20T00:00:00Z", "until": "2026-11-22T00:00:00Z"}


@pytest.fixture
def used(key: ApiKey, use: Callable[..., Any]) -> None:
    """Three calls on two days: 10 + 20 tokens, and 30 on the next."""
    for day, hour, units in ((20, 9, 10), (20, 17, 20), (21, 9, 30)):
        use(key, units=units, at=datetime(2026, 11, day, hour, 30, tzinfo=UTC))


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        ("day", [("2026-11-20T00:00:00Z", 30), ("2026-11-21T00:00:00Z", 30)]),
        ("hour", [("2026-11-20T09:00:00Z", 10), ("2026-11-20T17:00:00Z", 20), ("2026-11-21T09:00:00Z", 30)]),
        ("model", [("farebox/sentiment", 60)]),
    ],
)
def test_usage_is_summed_by_group(api: Any, used: None, group_by: str, groups: list[tuple[str, int]]) -> None:
    shown = api.get(USAGE, {**DAY, "group_by": group_by}).json()

    assert [(row["group"], row["units"]) for row in shown["data"]] == groups
    assert (shown["total_calls"], shown["total_cost"]) == (3, "0.000012000")


def test_usage_by_key_names_the_key_by_its_public_id(api: Any, key: ApiKey, used: None) -> None:
    [row] = api.get(USAGE, {**DAY, "group_by": "key"}).json()["data"]

    assert (row["group"], row["calls"]) == (public_id("key", key.pk), 3)


def test_the_span_is_half_open(api: Any, used: None) -> None:
    shown = api.get(USAGE, {"since": "2026-11-20T10:00:00Z", "until": "2026-11-21T09:00:00Z"}).json()

    assert [row["units"] for row in shown["data"]] == [20]


@pytest.mark.parametrize("ask", [{"query": {"format": "csv"}}, {"accept": "text/csv"}])
def test_the_csv_adds_up_to_the_json(api: Any, used: None, ask: dict[str, Any]) -> None:
    headers = {"accept": ask["accept"]} if "accept" in ask else {}

    reply = api.get(USAGE, {**DAY, **ask.get("query", {})}, **headers)

    rows = list(csv.DictReader(io.StringIO(reply.content.decode())))
    assert reply.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert reply.headers["Request-Id"].startswith("req_")
    assert sum(Decimal(row["cost"]) for row in rows) == Decimal("0.000012000")
    assert {row["currency"] for row in rows} == {"usd"}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"since": "2026-11-22T00:00:00Z", "until": "2026-11-22T00:00:00Z"}, "until"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-11-22"}, "since"),
        ({"group_by": "colour"}, "group_by"),
        ({"group_by": "hour", "since": "2026-01-01T00:00:00Z", "until": "2026-11-22T00:00:00Z"}, "since"),
        ({"sku": "x"}, "sku"),
    ],
)
def test_a_malformed_span_is_refused(api: Any, query: dict[str, Any], param: str) -> None:
    reply = api.get(USAGE, query)

    assert (reply.status_code, reply.json()["errors"][0]["param"]) == (400, param)


def test_a_test_key_sees_free_calls_alone(make_api: Callable[..., Any], used: None, use: Callable[..., Any]) -> None:
    api = make_api(livemode=False)
    use(ApiKey.objects.get(livemode=False), units=7, at=datetime(2026, 11, 20, 9, tzinfo=UTC))

    shown = api.get(USAGE, DAY).json()

    assert (shown["livemode"], shown["total_calls"], shown["total_cost"]) == (False, 1, "0.000000000")
