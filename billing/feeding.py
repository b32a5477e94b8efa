"""Tell the provider's meters of usage: each posted hour of an account once, and later what changed of it.

What a meter counts is the postings' own sums, so that it can be compared with the ledger to the unit. Our invoices do not
rest on it: the feed is for who wants usage in Stripe, too.
"""

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import Error, transaction
from django.db.models import Sum
from django.utils import timezone

from billing import outbox
from billing.customers import ensure_customer
from billing.models import Account, MeterFeed, MeterReport, UsagePosting
from billing.periods import hour_of, month_of
from billing.providers import collects_money

log = logging.getLogger(__name__)

Quantity = MeterFeed.Quantity
Status = MeterReport.Status
SEND: Final = "meter_event.create"
MAKE: Final = "meter.create"
# Stripe takes events of the last 35 days. A day less, for those that wait.
TAKEN_FOR: Final = timedelta(days=34)
# Nanos, or calls, in a unit of the meter.
UNIT: Final = {Quantity.CHARGE: 1000, Quantity.CALLS: 1}
_COLUMN: Final = {Quantity.CHARGE: "charge_nanos", Quantity.CALLS: "events"}
# A posting may be committed so long after the moment that it says it was made at.
_COMMITTED: Final = timedelta(hours=1)


class Hour(NamedTuple):
    """An hour of an account's usage that is on one month's bill."""

    account: UUID
    hour: datetime
    period: datetime


def feed_meters(*, now: datetime | None = None, everything: bool = False) -> int:
    """Have the meters that the settings name told of what was posted; return how many reports were made. Safe to run twice.

    Args:
        now: The time.
        everything: Look at all hours since a feed began, not only at those with postings since the last run.
    """
    now = now or timezone.now()
    if not collects_money():
        return 0
    made = 0
    for feed in find_feeds(now=now):
        since = feed.started_at if everything or feed.fed_at is None else feed.fed_at - _COMMITTED
        is_whole = True
        for account_id, hours in _unreported(feed, since=since):
            try:
                made += _report(feed, account_id, hours, now=now)
            except Error:  # The next run tries again; the others need not wait for it.
                is_whole = False
                log.exception("The meter %s could not be told of %s.", feed, account_id)
        if is_whole:
            MeterFeed.objects.filter(pk=feed.pk).update(fed_at=now)
    return made


def find_feeds(*, now: datetime) -> list[MeterFeed]:
    """Return the feeds that the settings name; a new one begins with the month that it is turned on in."""
    feeds = []
    for quantity, event_name in settings.STRIPE_METERS.items():
        defaults = {"quantity": quantity, "started_at": month_of(now)[0]}
        feed, _ = MeterFeed.objects.get_or_create(event_name=event_name, defaults=defaults)
        if feed.quantity == quantity:
            feeds.append(feed)
        else:
            log.error("The meter %s counts %s; name another for %s.", event_name, feed.quantity, quantity)
    return feeds


def posted_amounts(feed: MeterFeed, hours: Sequence[Hour] | None = None, *, since: datetime | None = None) -> dict[Hour, int]:
    """Return what was posted, in nanos or calls: of these hours of one account, or of all with postings since."""
    rows = UsagePosting.objects.filter(period__gte=feed.started_at)
    if hours is not None:
        rows = rows.filter(account=hours[0].account, hour__in={one.hour for one in hours})
    if since is not None:
        rows = rows.filter(created_at__gte=since)
    found = rows.values_list("account", "hour", "period").order_by().annotate(total=Sum(_COLUMN[Quantity(feed.quantity)]))
    sums = {Hour(*key): int(total or 0) for *key, total in found}
    return sums if hours is None else {one: sums.get(one, 0) for one in hours}


def posted_by_account(feed: MeterFeed) -> dict[UUID, int]:
    """Return what was posted since a feed began, in nanos or calls, by account: summed by the database."""
    rows = UsagePosting.objects.filter(period__gte=feed.started_at).values_list("account").order_by()
    return {account: int(total or 0) for account, total in rows.annotate(total=Sum(_COLUMN[Quantity(feed.quantity)]))}


def reported_amounts(feed: MeterFeed, hours: Sequence[Hour]) -> dict[Hour, tuple[int, int]]:
    """Return what reports of these hours of one account come to, and how many there are."""
    rows = MeterReport.objects.filter(feed=feed, account=hours[0].account, hour__in={one.hour for one in hours})
    sums: dict[Hour, tuple[int, int]] = {}
    for account, hour, period, amount in rows.values_list("account", "hour", "period", "amount"):
        total, count = sums.get(Hour(account, hour, period), (0, 0))
        sums[Hour(account, hour, period)] = (total + amount, count + 1)
    return {one: sums.get(one, (0, 0)) for one in hours}


def _unreported(feed: MeterFeed, *, since: datetime) -> Iterator[tuple[UUID, list[Hour]]]:
    """Yield the accounts with postings since, and the hours that these are of."""
    by_account: dict[UUID, list[Hour]] = {}
    for hour in posted_amounts(feed, since=since):
        by_account.setdefault(hour.account, []).append(hour)
    yield from sorted(by_account.items())


@transaction.atomic
def _report(feed: MeterFeed, account_id: UUID, hours: list[Hour], *, now: datetime) -> int:
    ensure_customer(Account.objects.get(pk=account_id))  # Before the account's lock: in the order of all others.
    account = Account.objects.select_for_update(no_key=True).get(pk=account_id)  # As postings do: one at a time.
    posted, reported = posted_amounts(feed, hours), reported_amounts(feed, hours)
    made = 0
    for hour in sorted(hours):
        told, count = reported[hour]
        if posted[hour] != told:
            _make(feed, account, hour, number=count + 1, amount=posted[hour] - told, now=now)
            made += 1
    return made


def _make(feed: MeterFeed, account: Account, hour: Hour, *, number: int, amount: int, now: datetime) -> MeterReport:
    before = int(MeterReport.objects.filter(feed=feed, account=account).aggregate(total=Sum("amount"))["total"] or 0)
    unit = UNIT[Quantity(feed.quantity)]
    # The whole units of all reports together are those of the sum of all amounts: rounding loses nothing for good.
    value = (before + amount) // unit - before // unit
    counted_at = _counted_at(hour, now=now)
    status = Status.EMPTY if not value else Status.TOO_OLD if counted_at < now - TAKEN_FOR else Status.WAITING
    report = MeterReport.objects.create(
        feed=feed,
        account=account,
        hour=hour.hour,
        period=hour.period,
        number=number,
        amount=amount,
        value=value,
        counted_at=counted_at,
        status=status,
        settled_at=None if status == Status.WAITING else now,
    )
    if status == Status.WAITING:
        if not feed.meter_id:
            outbox.enqueue(account, kind=MAKE, subject=feed.pk, parameters={"event_name": feed.event_name})
        outbox.enqueue(account, kind=SEND, subject=report.pk, parameters={})
    return report


def _counted_at(hour: Hour, *, now: datetime) -> datetime:
    """Return a moment of the month whose bill it is on: the hour itself, or of a later refund, about when it was made."""
    first, ends_at = month_of(hour.period)
    if first <= hour.hour < ends_at:
        return hour.hour
    return max(first, min(hour_of(now), ends_at - timedelta(hours=1)))
