"""Tests of what is known of the meters: each difference by its cause, and what they could not count."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction

from billing import feed_books, feed_checks, feeding, webhooks
from billing.books import check_books
from billing.feeding import feed_meters
from billing.models import Account, MeterFault, MeterFeed, MeterHolding, MeterReport, OutboxRow, Price, StripeEventWork
from billing.periods import hour_of
from billing.providers.fake import meters
from billing.providers.fake.store import shown
from tests.billing.facts import Recorder
from tests.billing.fed import DAY, HOURS, NOW, deliver, held, look, use
from tests.till import Till

pytestmark = pytest.mark.django_db


@pytest.fixture
def recorder(account: Account) -> Recorder:
    """The account's gateway."""
    return Recorder(account)


def test_what_is_too_old_for_the_provider_is_not_sent_and_named(till: Till, feed: MeterFeed, recorder: Recorder, price: Price) -> None:
    use(recorder, price, hour_of(NOW) - timedelta(days=35), 50)
    use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW)
    deliver(till)
    look()

    assert held(till) == 10
    statement = feed_books.meter_statement(feed)
    assert (statement.posted, statement.too_old, statement.held, statement.unexplained) == (20_000, 10_000, 10_000, 0)
    assert check_books() == []


def test_a_difference_is_found_and_stops_nobody(till: Till, feed: MeterFeed, recorder: Recorder, price: Price) -> None:
    use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW)
    deliver(till)
    (event,) = till.world.store.all("billing.meter_event")
    till.world.store.save({**event, "_value": 7})
    look()

    (difference,) = check_books()

    assert (difference.found, difference.facts) == (7_000, 10_000)
    assert difference.what == "meter farebox_charge"
    from billing.reviewing import accounts_of

    assert accounts_of([difference]) == {}
    feed.refresh_from_db()
    assert feed_books.meter_statement(feed).unexplained == 3_000


def test_a_report_that_is_missing_is_found(till: Till, feed: MeterFeed, recorder: Recorder, price: Price) -> None:
    use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW + timedelta(hours=1))
    MeterFeed.objects.update(fed_at=NOW + timedelta(hours=4))
    assert check_books() == []
    use(recorder, price, HOURS[1], 50)  # By the books' clock it was posted well before the last run.

    (difference,) = check_books()

    assert (difference.what, difference.found, difference.facts) == ("meter reports farebox_charge", 10_000, 20_000)


def tell_faults(till: Till) -> list[Any]:
    """Deliver the thin events, each twice, as the provider does."""
    events = till.world.store.all("v2.core.event")[::-1]
    for event in (*events, *events):
        assert till.post(event).status_code == 200
    webhooks.apply_waiting()
    return events


def test_an_event_that_was_accepted_and_not_counted_is_heard_of(till: Till, feed: MeterFeed, recorder: Recorder, price: Price) -> None:
    till.world.faults.uncounted = 1
    use(recorder, price, HOURS[0], 50)
    use(recorder, price, HOURS[1], 50)
    feed_meters(now=NOW)
    deliver(till)

    (event,) = tell_faults(till)

    assert event["type"] == "v1.billing.meter.error_report_triggered"
    assert "data" not in shown(event)  # A thin event says no more than what it is about.
    (fault,) = MeterFault.objects.all()
    assert (fault.code, fault.count, fault.feed) == ("meter_event_customer_not_found", 1, feed)
    assert fault.report is not None
    assert (fault.report.status, fault.report.hour) == ("refused", HOURS[0])
    look()
    statement = feed_books.meter_statement(feed)
    assert (statement.refused, statement.held, statement.unexplained) == (10_000, 10_000, 0)
    assert check_books() == []
    with pytest.raises(IntegrityError), transaction.atomic():
        MeterFault.objects.update(count=0)


def test_a_meter_that_is_gone_is_heard_of_by_the_list_where_no_webhook_came(
    till: Till, feed: MeterFeed, recorder: Recorder, price: Price
) -> None:
    use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW)
    OutboxRow.objects.filter(kind=feeding.MAKE).delete()
    MeterFeed.objects.update(meter_id="mtr_gone")
    deliver(till)

    webhooks.catch_up()
    webhooks.apply_waiting()

    (fault,) = MeterFault.objects.all()
    assert (fault.code, fault.event.type) == ("no_meter", "v1.billing.meter.no_meter_found")
    assert MeterReport.objects.get().status == "refused"


def test_a_fault_of_another_program_is_ignored(till: Till, feed: MeterFeed) -> None:
    meters.create_event(till.world, {"event_name": "theirs", "payload": {"stripe_customer_id": "cus_1", "value": "1"}})

    tell_faults(till)

    assert not MeterFault.objects.exists()
    assert StripeEventWork.objects.get().outcome == "ignored"


def test_an_account_that_was_looked_at_today_is_not_looked_at_again(till: Till, feed: MeterFeed, recorder: Recorder, price: Price) -> None:
    use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW)
    deliver(till)
    noon = NOW.replace(hour=12) + DAY

    assert [feed_checks.look_at_meters(now=noon), feed_checks.look_at_meters(now=noon)] == [1, 0]
    assert feed_checks.look_at_meters(now=noon.replace(hour=1) + DAY) == 0  # Its last hour may not be counted yet.


def test_the_command_prints_where_all_is_and_fails_where_it_cannot_be_told(
    till: Till, feed: MeterFeed, recorder: Recorder, price: Price, capsys: pytest.CaptureFixture[str]
) -> None:
    use(recorder, price, HOURS[0], 50)
    feed_meters(now=NOW)
    deliver(till)
    look()

    call_command("check_meters")

    assert "Held by the meter: 0.000010" in capsys.readouterr().out
    MeterHolding.objects.update(value=3)
    with pytest.raises(CommandError, match="farebox_charge"):
        call_command("check_meters")


def test_checked_by_hand_without_the_sites_settings_it_fails(settings: Any) -> None:
    settings.STRIPE_METERS = {}

    with pytest.raises(CommandError, match="No meter is fed"):
        call_command("check_meters")
