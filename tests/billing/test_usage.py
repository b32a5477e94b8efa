"""Tests of reading usage."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from billing.ids import uuid7
from billing.ledger import open_account
from billing.models import Account, Price, UsageEvent
from billing.periods import EPOCH
from billing.refunding import refund_event
from billing.usage import events_for, usage_by
from tests.billing.facts import Recorder

pytestmark = pytest.mark.django_db
DAY = datetime(2025, 11, 15, tzinfo=UTC)
SINCE, UNTIL = DAY - timedelta(days=1), DAY + timedelta(days=5)


@pytest.fixture
def used(account: Account, price: Price) -> list[UsageEvent]:
    """Five live calls and one test call of two keys, over two days."""
    recorder = Recorder(account)
    hours = [(0, "key-1"), (0, "key-2"), (1, "key-1"), (30, "key-1"), (30, "key-2")]
    live = [recorder.record(price, units=10 + n, source=key, occurred_at=DAY + timedelta(hours=h)) for n, (h, key) in enumerate(hours)]
    return [*live, recorder.record(price, units=100, livemode=False, source="key-t", occurred_at=DAY)]


def test_usage_by_hour_and_day_is_ascending(account: Account, used: list[UsageEvent]) -> None:
    hours = usage_by(account, group_by="hour", since=SINCE, until=UNTIL)
    days = usage_by(account, group_by="day", since=SINCE, until=UNTIL)

    assert [(row.group, row.events, row.units) for row in hours] == [
        (DAY, 2, 21),
        (DAY + timedelta(hours=1), 1, 12),
        (DAY + timedelta(hours=30), 2, 27),
    ]
    assert [(row.group, row.units, row.charge_nanos) for row in days] == [(DAY, 33, 6_600), (DAY + timedelta(days=1), 27, 5_400)]


def test_usage_by_sku_and_source(account: Account, used: list[UsageEvent]) -> None:
    assert [(row.group, row.unit, row.events) for row in usage_by(account, group_by="sku", since=SINCE, until=UNTIL)] == [
        ("house/model@1", "token", 5)
    ]
    assert [(row.group, row.units) for row in usage_by(account, group_by="source", since=SINCE, until=UNTIL)] == [
        ("key-1", 35),
        ("key-2", 25),
    ]


def test_test_calls_are_counted_only_where_asked_for(account: Account, used: list[UsageEvent]) -> None:
    def units(*, livemode: bool | None) -> int:
        return sum(row.units for row in usage_by(account, group_by="sku", since=SINCE, until=UNTIL, livemode=livemode))

    assert (units(livemode=True), units(livemode=False), units(livemode=None)) == (60, 100, 160)


def test_usage_is_less_what_was_refunded(account: Account, used: list[UsageEvent]) -> None:
    refund_event(used[0].pk, reason="test", by="test")

    (row,) = usage_by(account, group_by="sku", since=SINCE, until=UNTIL)

    assert (row.events, row.units, row.charge_nanos) == (4, 50, 10_000)


def test_units_that_differ_in_kind_are_not_added_up(account: Account, used: list[UsageEvent]) -> None:
    by_call = Price.objects.create(sku="house/other@1", unit="call", unit_nanos=5, effective_from=EPOCH)
    Recorder(account).record(by_call, units=1, source="key-1", occurred_at=DAY)

    rows = usage_by(account, group_by="source", since=SINCE, until=UNTIL)

    assert [(row.group, row.unit, row.units) for row in rows] == [("key-1", "call", 1), ("key-1", "token", 35), ("key-2", "token", 25)]


@pytest.mark.parametrize("limit", [1, 2, 3, 6])
def test_pages_of_events_have_no_gap_and_no_repetition(account: Account, used: list[UsageEvent], limit: int) -> None:
    seen: list[UUID] = []
    after = None
    while page := events_for(account, after=after, limit=limit):
        seen += [event.pk for event in page]
        after = page[-1].pk

    assert seen == [event.pk for event in sorted(used, key=lambda event: (event.occurred_at, event.pk), reverse=True)]


def test_events_are_filtered_by_time_and_sku(account: Account, used: list[UsageEvent]) -> None:
    assert len(events_for(account, since=DAY + timedelta(hours=1), until=DAY + timedelta(hours=30))) == 1
    assert len(events_for(account, sku="house/model@1")) == 6
    assert events_for(account, sku="house/none@1") == []


def test_a_strangers_event_is_no_place_to_go_on_from(account: Account, used: list[UsageEvent]) -> None:
    stranger = open_account(name="stranger")

    assert events_for(stranger) == []
    assert events_for(stranger, after=used[0].pk) == []
    assert events_for(account, after=uuid7()) == []
