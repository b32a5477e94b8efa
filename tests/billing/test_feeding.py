"""Tests of the meter feed: each posted hour is told once, whatever goes wrong, and what the provider holds is compared with it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from billing import feed_books, feeding, outbox, sending
from billing.books import check_books
from billing.feeding import feed_meters
from billing.invoicing import CLOSE_AFTER, close_period
from billing.ledger import open_account
from billing.models import Account, Customer, MeterFeed, MeterReport, OutboxRow, Price, UsagePosting
from billing.money import Nanos
from billing.periods import EPOCH, hour_of, month_of
from billing.posting import post_usage
from billing.providers.fake import meters
from billing.providers.fake.world import Fault
from billing.refunding import refund_event
from tests.billing.facts import Recorder
from tests.billing.fed import HOURS, NOW, deliver, held, look, use
from tests.till import HANG_S, Till

pytestmark = pytest.mark.django_db


@pytest.fixture
def recorder(account: Account) -> Recorder:
    """The account's gateway."""
    return Recorder(account)


def test_each_posted_hour_is_told_once(till: Till, feed: MeterFeed, recorder: Recorder, price: Price) -> None:
    for place, hour in enumerate(HOURS):
        use(recorder, price, hour, 10 * (place + 1))

    assert feed_meters(now=NOW) == 3
    assert feed_meters(now=NOW, everything=True) == 0
    deliver(till)

    told = till.world.store.all("billing.meter_event")[::-1]
    assert [(one["timestamp"], one["payload"]["value"]) for one in told] == [
        (int(hour.timestamp()), str(value)) for hour, value in zip(HOURS, (2, 4, 6), strict=True)
    ]  # 200 nanos each, in millionths.
    assert {one["payload"]["stripe_customer_id"] for one in told} == {Customer.objects.get().customer_id}
    assert {one["identifier"] for one in told} == {report.identifier for report in MeterReport.objects.all()}
    assert {report.status for report in MeterReport.objects.all()} == {"accepted"}
    assert till.count("billing.meter") == 1
    assert check_books() == []


def test_without_the_setting_nothing_is_told(till: Till, recorder: Recorder, price: Price) -> None:
    use(recorder, price, HOURS[0], 10)

    assert feed_meters(now=NOW) == 0
    assert not MeterReport.objects.exists()


def test_rounding_carries_on_and_loses_nothing(till: Till, feed: MeterFeed, recorder: Recorder) -> None:
    price = Price.objects.create(sku="house/cheap@1", unit="token", unit_nanos=300, effective_from=EPOCH)
    for hour in HOURS:
        use(recorder, price, hour, 2)  # 600 nanos each: 0, 1 and 0 millionths.
        feed_meters(now=NOW)

    assert list(MeterReport.objects.order_by("hour").values_list("amount", "value", "status")) == [
        (600, 0, "empty"),
        (600, 1, "waiting"),
        (600, 0, "empty"),
    ]
    statement = feed_books.meter_statement(feed)
    assert (statement.posted, statement.carried, statement.waiting, statement.unexplained) == (1800, 800, 1000, 0)


def test_what_changes_of_an_hour_is_told_as_a_further_event(till: Till, feed: MeterFeed, recorder: Recorder, price: Price) -> None:
    event = use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW)
    use(recorder, price, HOURS[0], 25)
    feed_meters(now=NOW)
    refund_event(event.pk, reason="test", by="test")
    post_usage(now=NOW, everything=True)
    feed_meters(now=NOW)
    deliver(till)

    assert sorted(one["payload"]["value"] for one in till.world.store.all("billing.meter_event")) == ["-10", "10", "5"]
    assert held(till) == 5
    assert check_books() == []


def test_a_refund_on_a_later_bill_counts_in_the_month_of_that_bill() -> None:
    may, july = datetime(2026, 5, 7, 10, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    hour = feeding.Hour(open_account(name="a").pk, may, july)

    assert feeding._counted_at(hour, now=july + timedelta(days=3, minutes=20)) == july + timedelta(days=3)
    assert feeding._counted_at(hour, now=july + timedelta(days=40)) == month_of(july)[1] - timedelta(hours=1)
    assert feeding._counted_at(hour._replace(period=month_of(may)[0]), now=july) == may


def test_a_month_at_the_meter_is_what_is_on_its_bill_refunds_of_calls_before_it_began_too(
    till: Till, feed: MeterFeed, recorder: Recorder, price: Price
) -> None:
    first = month_of(NOW)[0]
    before = use(recorder, price, first - timedelta(days=1), 50)
    close_period(recorder.account, month_of(before.occurred_at)[0], now=first + CLOSE_AFTER)
    MeterFeed.objects.update(started_at=first)
    feed_meters(now=NOW)
    assert not MeterReport.objects.exists()

    refund_event(before.pk, reason="test", by="test")
    post_usage(now=NOW, everything=True)
    feed_meters(now=NOW)

    amounts = set(UsagePosting.objects.filter(period__gte=first).values_list("charge_nanos", "period"))
    assert amounts == {(-10_000, first)}
    assert {(report.amount, report.period) for report in MeterReport.objects.all()} == amounts
    assert all(first <= report.counted_at <= NOW for report in MeterReport.objects.all())


@pytest.mark.parametrize("kind", ["timeout_after", "timeout_before", "error_500", "error_500_after", "rate_limit", "conflict"])
def test_whatever_goes_wrong_each_event_counts_once(till: Till, feed: MeterFeed, recorder: Recorder, price: Price, kind: str) -> None:
    for hour in HOURS:
        use(recorder, price, hour, 50)
    feed_meters(now=NOW)
    till.world.faults.waiting = [
        Fault(kind=kind, match=route, times=2, seconds=HANG_S) for route in ("/v1/billing/meters", "POST /v1/billing/meter_events")
    ]

    deliver(till, times=12)

    assert not till.world.faults.waiting
    assert held(till) == 30
    assert (till.count("billing.meter"), till.count("billing.meter_event")) == (1, 3)
    assert {row.state for row in OutboxRow.objects.all()} == {"done"}
    look()
    assert check_books() == []


def test_an_event_that_is_told_twice_counts_once_and_is_delivered(till: Till, feed: MeterFeed, recorder: Recorder, price: Price) -> None:
    use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW)
    deliver(till)
    # As after a restored backup: the answer, and the key that it was sent under, are forgotten.
    OutboxRow.objects.update(state="waiting", finished_at=None, due_at=NOW, first_sent_at=None)
    MeterReport.objects.update(status="waiting", settled_at=None)
    till.world.store.forget_answers()

    deliver(till)

    assert held(till) == 10
    assert MeterReport.objects.get().status == "accepted"


def leave_unanswered_for_a_day() -> None:
    """Have what was sent stand as if no answer had come since, for longer than its identifier is known."""
    OutboxRow.objects.filter(kind=feeding.SEND).update(
        state="waiting", finished_at=None, due_at=NOW, first_sent_at=NOW - timedelta(hours=30)
    )
    MeterReport.objects.update(status="waiting", settled_at=None)


@pytest.mark.parametrize("happened", [True, False])
def test_after_a_day_the_meter_is_looked_at_before_it_is_told_again(
    till: Till, feed: MeterFeed, recorder: Recorder, price: Price, monkeypatch: pytest.MonkeyPatch, *, happened: bool
) -> None:
    use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW)
    deliver(till)
    leave_unanswered_for_a_day()
    till.world.store.forget_answers()
    monkeypatch.setattr(meters, "_UNIQUE_S", -1)  # The identifier is forgotten, too.
    if not happened:
        (event,) = till.world.store.all("billing.meter_event")
        till.world.store.save({**event, "_meter": None})

    deliver(till)

    assert till.count("billing.meter_event") == (1 if happened else 2)
    assert MeterReport.objects.get().status == "accepted"


def test_a_fresh_key_does_not_make_an_old_event_new(
    till: Till, feed: MeterFeed, recorder: Recorder, price: Price, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, its answer lost; a day of errors that spend keys, the last of them a while ago: it is looked up before it is told."""
    use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW)
    deliver(till)
    row = OutboxRow.objects.filter(kind=feeding.SEND)
    waiting = {"state": "waiting", "finished_at": None, "due_at": NOW, "generation": 1}
    row.update(**waiting, first_sent_at=NOW - timedelta(hours=11), created_at=NOW - timedelta(hours=30))
    MeterReport.objects.update(status="waiting", settled_at=None)
    till.world.store.forget_answers()
    monkeypatch.setattr(meters, "_UNIQUE_S", -1)

    deliver(till)

    assert (till.count("billing.meter_event"), held(till)) == (1, 10)
    assert MeterReport.objects.get().status == "accepted"


def test_what_the_meter_holds_beyond_doubt_alone_is_taken_for_delivered(
    till: Till, feed: MeterFeed, recorder: Recorder, price: Price
) -> None:
    use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW)
    deliver(till)
    leave_unanswered_for_a_day()
    (event,) = till.world.store.all("billing.meter_event")
    till.world.store.save({**event, "_value": 7})

    deliver(till)

    assert till.count("billing.meter_event") == 1
    row = OutboxRow.objects.get(kind=feeding.SEND)
    assert row.state == "waiting"
    assert "cannot be told" in row.last_error


def test_what_waits_in_the_outbox_until_it_is_too_old_is_given_up(till: Till, feed: MeterFeed, recorder: Recorder, price: Price) -> None:
    use(recorder, price, hour_of(NOW) - timedelta(days=33, hours=23), 50)
    feed_meters(now=NOW - timedelta(hours=2))
    MeterFeed.objects.update(meter_id="mtr_1")
    report = MeterReport.objects.get()
    assert report.status == "waiting"
    row = OutboxRow.objects.get(kind=feeding.SEND)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feeding, "TAKEN_FOR", timedelta(days=30))
        sending.deliver(row.pk)

    report.refresh_from_db()
    assert report.status == "too_old"
    assert till.count("billing.meter_event") == 0


def test_a_meter_that_counts_otherwise_is_refused_and_said(till: Till, feed: MeterFeed, recorder: Recorder, price: Price) -> None:
    meters.create_meter(till.world, {"display_name": "x", "event_name": "farebox_charge", "default_aggregation": {"formula": "count"}})
    use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW)
    deliver(till)

    feed.refresh_from_db()
    assert "meter_counts_otherwise" in feed.failure
    assert till.count("billing.meter_event") == 0


def test_payments_are_sent_before_what_meters_are_told(till: Till, feed: MeterFeed, recorder: Recorder, price: Price) -> None:
    use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW)
    outbox.enqueue(recorder.account, kind="card.detach", subject="pm_1", parameters={"card": "pm_1"})
    till.world.faults.waiting = [Fault(kind="rate_limit", match="meter_events", times=9)]

    deliver(till)

    assert OutboxRow.objects.get(kind="card.detach").state == "refused"  # It was asked: there is no such card.


def test_calls_can_be_counted_beside_charges(till: Till, feed: MeterFeed, recorder: Recorder, price: Price, settings: Any) -> None:
    settings.STRIPE_METERS = {"charge": "farebox_charge", "calls": "farebox_calls"}
    MeterFeed.objects.create(event_name="farebox_calls", quantity="calls", started_at=feed.started_at)
    use(recorder, price, HOURS[0], 50)
    use(recorder, price, HOURS[0], 50)

    feed_meters(now=NOW)
    deliver(till)

    assert {(one["event_name"], one["payload"]["value"]) for one in till.world.store.all("billing.meter_event")} == {
        ("farebox_charge", "20"),
        ("farebox_calls", "2"),
    }


def test_a_report_keeps_what_it_said(till: Till, feed: MeterFeed, recorder: Recorder, price: Price) -> None:
    use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW)

    for change in ({"value": 1}, {"amount": Nanos(1)}, {"number": 2}):
        with pytest.raises(IntegrityError), transaction.atomic():
            MeterReport.objects.update(**change)
    with pytest.raises(IntegrityError), transaction.atomic():
        MeterReport.objects.all().delete()
