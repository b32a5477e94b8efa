"""See what the provider's meters hold, and hear what they could not count."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from billing.feeding import TAKEN_FOR, find_feeds
from billing.models import Account, Customer, MeterFault, MeterFeed, MeterHolding, MeterReport, StripeEvent
from billing.periods import day_of
from billing.providers import collects_money, provider
from billing.providers.base_meters import MeterFaultState

log = logging.getLogger(__name__)

FAULTS: Final = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
Status = MeterReport.Status
_DAY: Final = timedelta(days=1)
# A day is looked at this long after its end: its last hour has been posted, told and counted by then.
_LOOK_AFTER: Final = timedelta(hours=2)


def look_at_meters(*, now: datetime | None = None, again: bool = False) -> int:
    """Note what the meters hold of each account's days that are over; return how many accounts were looked at.

    Args:
        now: The time.
        again: Also look at those that were looked at today.

    Raises:
        ProviderUnavailable, ProviderRefused: there was no answer. What was noted before stays.
    """
    now = now or timezone.now()
    if not collects_money():
        return 0
    today = day_of(now)[0]
    if now < today + _LOOK_AFTER and not again:
        return 0
    looked = 0
    for feed in find_feeds(now=now):
        since = max(feed.started_at, today - TAKEN_FOR)
        if not feed.meter_id or since >= today:
            continue
        for account in _concerned(feed, since=since, today=today, again=again):
            looked += _look(feed, account, since=since, today=today, now=now)
    return looked


def _concerned(feed: MeterFeed, *, since: datetime, today: datetime, again: bool) -> Sequence[Account]:
    told = MeterReport.objects.filter(feed=feed, counted_at__gte=since, counted_at__lt=today).exclude(status=Status.EMPTY)
    accounts = Account.objects.filter(pk__in=told.values("account"))
    if not again:
        seen = MeterHolding.objects.filter(feed=feed, looked_at__gte=today)
        accounts = accounts.exclude(pk__in=seen.values("account"))
    return list(accounts.order_by("pk"))


def _look(feed: MeterFeed, account: Account, *, since: datetime, today: datetime, now: datetime) -> bool:
    customer_id = Customer.objects.filter(account=account).values_list("customer_id", flat=True).first()
    if not customer_id:
        return False
    held = provider().metered(feed.meter_id, customer=customer_id, since=since, until=today, by="day")
    told = MeterReport.objects.filter(feed=feed, account=account, counted_at__gte=since, counted_at__lt=today).exclude(status=Status.EMPTY)
    days = {day_of(moment)[0] for moment in told.values_list("counted_at", flat=True)} | {day for day, value in held.items() if value}
    with transaction.atomic():
        for day in sorted(days):
            values = {"value": held.get(day, 0), "looked_at": now}
            MeterHolding.objects.update_or_create(feed=feed, account=account, day=day, defaults=values)
    return True


def apply_fault(event: StripeEvent) -> bool:
    """Note what the provider says that it did not count; whether any of it was ours."""
    feed = MeterFeed.objects.filter(meter_id=event.object_id).exclude(meter_id="").first()
    ours = 0
    faults = provider().meter_faults(event.event_id)  # Before the transaction.
    with transaction.atomic():
        for fault in faults:
            ours += _note(event, feed, fault)
    return ours > 0


def _note(event: StripeEvent, feed: MeterFeed | None, fault: MeterFaultState) -> bool:
    reports = [report for key in fault.keys if (report := find_report(key))]
    if feed is None and not reports:
        return False  # Of another program on the same account.
    named: Sequence[MeterReport | None] = reports or [None]
    for report in named:
        MeterFault.objects.get_or_create(
            event=event,
            code=fault.code[:80],
            report=report,
            defaults={"feed": report.feed if report is not None else feed, "count": fault.count, "message": fault.message[:300]},
        )
    uncounted = MeterReport.objects.filter(pk__in=[report.pk for report in reports])
    uncounted.update(status=Status.REFUSED, failure=f"{fault.code}: {fault.message}"[:300])
    log.error("%d events were not counted by a meter (%s): %s", fault.count, fault.code, fault.message)
    return True


def find_report(key: str) -> MeterReport | None:
    """Return the report that was sent under an idempotency key, by the identifier in it."""
    identifier = key.partition("-g")[0]
    parts = identifier.split("-")
    if len(parts) != 6 or parts[0] != "farebox" or not parts[5].isdigit():
        return None
    rows = MeterReport.objects.select_related("feed").filter(account__in=_accounts(parts[2]), number=int(parts[5]))
    return next((report for report in rows if report.identifier == identifier), None)


def _accounts(digits: str) -> Sequence[UUID]:
    return [UUID(digits)] if len(digits) == 32 and set(digits) <= set("0123456789abcdef") else []
