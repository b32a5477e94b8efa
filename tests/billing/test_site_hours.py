"""The site's hourly sums: what the facts come to, however much of them was summed up before."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from billing.ledger import open_account
from billing.models import Account, Price, SiteHour, SkuShare
from billing.periods import EPOCH
from billing.posting import post_usage
from billing.refunding import refund_event
from billing.site_hours import SiteSum, sum_hours, summed_until, sums_by_month, used_since
from tests.billing.facts import Recorder

pytestmark = pytest.mark.django_db
MONTH = datetime(2025, 11, 1, tzinfo=UTC)
HOUR = datetime(2025, 11, 3, 10, tzinfo=UTC)


@pytest.fixture
def recorder(account: Account) -> Recorder:
    """The account's gateway."""
    return Recorder(account)


def months() -> Mapping[datetime, SiteSum]:
    """What the months come to in dollars, from all hours' own sums."""
    SiteHour.objects.all().delete()
    return {month: one for (month, currency), one in sums_by_month(MONTH).items() if currency == "usd"}


def stored() -> Mapping[datetime, SiteSum]:
    """The same from what was summed up and the hours since."""
    return {month: one for (month, currency), one in sums_by_month(MONTH).items() if currency == "usd"}


def test_what_was_summed_up_and_what_came_since_make_the_month(recorder: Recorder, price: Price) -> None:
    recorder.record(price, units=3, occurred_at=HOUR)
    recorder.record(price, units=4, occurred_at=HOUR + timedelta(hours=1))
    assert sum_hours(now=HOUR + timedelta(minutes=75)) == 1  # The first hour is over, the second is not.
    recorder.record(price, units=5, occurred_at=HOUR + timedelta(hours=2))

    assert summed_until() == HOUR + timedelta(hours=1)
    assert stored() == {MONTH: SiteSum(3, 12 * 200)}
    assert used_since(HOUR + timedelta(hours=1)) == {"usd": SiteSum(2, 9 * 200)}
    assert used_since(HOUR) == {"usd": SiteSum(3, 12 * 200)}
    assert stored() == months()


def test_an_hour_is_summed_up_once_and_a_silent_one_too(recorder: Recorder, price: Price) -> None:
    recorder.record(price, occurred_at=HOUR)
    late = HOUR + timedelta(hours=5)

    assert sum_hours(now=late) == 2  # The hour with a call, and the last, which had none.
    assert sum_hours(now=late) == 0
    assert summed_until() == late - timedelta(hours=1)


def test_a_late_call_and_a_refund_of_a_summed_hour_show_with_the_next(recorder: Recorder, price: Price) -> None:
    old = recorder.record(price, units=3, occurred_at=HOUR - timedelta(days=2))
    recorder.record(price, units=4, occurred_at=HOUR)
    sum_hours(now=HOUR + timedelta(hours=2))
    recorder.record(price, units=5, occurred_at=HOUR)
    refund_event(old.pk, reason="test", by="test")
    assert stored()[MONTH] == SiteSum(2, 7 * 200)

    sum_hours(now=HOUR + timedelta(hours=3))

    assert stored() == {MONTH: SiteSum(2, 9 * 200)}
    assert stored() == months()


def test_shares_count_when_they_are_posted(recorder: Recorder, price: Price) -> None:
    SkuShare.objects.create(
        subject=price.sku, payee=open_account(name="models & co"), fee_basis_points=1500, effective_from=EPOCH, by="test"
    )
    recorder.record(price, units=10, occurred_at=HOUR)
    post_usage(now=HOUR + timedelta(hours=2))
    this_month = timezone.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    before = stored()
    sum_hours(now=timezone.now() + timedelta(hours=2))

    assert before[this_month] == SiteSum(share_nanos=1_700)
    assert before[MONTH] == SiteSum(1, 2_000)
    assert stored() == before == months()
