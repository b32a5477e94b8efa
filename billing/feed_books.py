"""The books of the meter feed: postings = reports = what the provider's meters hold, each difference by its cause."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db.models import Count, Max, Q, Sum
from django.db.models.functions import TruncDay
from django.utils import timezone

from billing import feeding
from billing.feeding import UNIT, Hour
from billing.models import MeterFeed, MeterHolding, MeterReport
from billing.periods import day_of

Sums = dict[Any, int]
Status = MeterReport.Status
# What was accepted so shortly before the meter was looked at may not be counted yet.
_COUNTED_AFTER: Final = timedelta(hours=1)
_POSTED_AGAIN: Final = timedelta(hours=1)
# Days that the hourly check compares: nothing is told or looked at of those before, which were compared then.
_LOOKED_AT_FOR: Final = feeding.TAKEN_FOR + timedelta(days=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterStatement:
    """What was posted since a feed began, and where it is: in nanos, or in calls. The rest is unexplained, and is a difference."""

    posted: int
    not_reported: int  # Posted since the last run.
    carried: int  # Less than a unit of the meter, carried on to the next report.
    waiting: int  # In the outbox.
    too_old: int
    refused: int  # Or not counted, as the provider said later.
    not_looked_at: int  # Accepted, on a day that was not looked at since.
    held: int

    @property
    def unexplained(self) -> int:
        """What the provider does not hold, or holds beyond it; nothing in good books."""
        named = (self.not_reported, self.carried, self.waiting, self.too_old, self.refused, self.not_looked_at, self.held)
        return self.posted - sum(named)


def meter_sums() -> Iterator[tuple[str, Sums, Sums]]:
    """Yield what is compared: reports against postings, and what meters hold against what they accepted."""
    for feed in MeterFeed.objects.filter(event_name__in=settings.STRIPE_METERS.values()):
        unit = UNIT[MeterFeed.Quantity(feed.quantity)]
        if feed.fed_at is not None:
            yield f"meter reports {feed}", *_reports(feed)
        held, accepted = _held(feed, since=timezone.now() - _LOOKED_AT_FOR)
        yield f"meter {feed}", {key: value * unit for key, value in held.items()}, {key: value * unit for key, value in accepted.items()}


def meter_statement(feed: MeterFeed) -> MeterStatement:
    """Return where all is that was posted since a feed began."""
    unit = UNIT[MeterFeed.Quantity(feed.quantity)]
    posted = sum(feeding.posted_by_account(feed).values())
    rows = MeterReport.objects.filter(feed=feed)
    sums = rows.aggregate(amount=Sum("amount"), value=Sum("value"))
    by_status = {status: unit * int(total) for status, total in rows.order_by().values_list("status").annotate(total=Sum("value"))}
    held, accepted = _held(feed)
    reported = int(sums["amount"] or 0)
    return MeterStatement(
        posted=posted,
        not_reported=posted - reported,
        carried=reported - unit * int(sums["value"] or 0),
        waiting=by_status.get(Status.WAITING, 0),
        too_old=by_status.get(Status.TOO_OLD, 0),
        refused=by_status.get(Status.REFUSED, 0),
        not_looked_at=by_status.get(Status.ACCEPTED, 0) - unit * sum(accepted.values()),
        held=unit * sum(held.values()),
    )


def _reports(feed: MeterFeed) -> tuple[Sums, Sums]:
    """Return what reports and postings come to by account, without the hours that were posted to since the last run."""
    assert feed.fed_at is not None
    rows = MeterReport.objects.filter(feed=feed).order_by()
    found = {account: int(total) for account, total in rows.values_list("account").annotate(total=Sum("amount"))}
    facts = feeding.posted_by_account(feed)
    recent: dict[UUID, list[Hour]] = {}
    for hour in feeding.posted_amounts(feed, since=feed.fed_at - _POSTED_AGAIN):
        recent.setdefault(hour.account, []).append(hour)
    for account, hours in recent.items():
        found[account] = found.get(account, 0) - sum(total for total, _ in feeding.reported_amounts(feed, hours).values())
        facts[account] -= sum(feeding.posted_amounts(feed, hours).values())
    return found, facts


def _held(feed: MeterFeed, *, since: datetime | None = None) -> tuple[Sums, Sums]:
    """Return what a meter holds and what it accepted by account and day: of the days that were looked at since all was settled.

    Args:
        feed: The meter.
        since: Leave earlier days out; None: leave out none.
    """
    told: dict[tuple[UUID, datetime], tuple[int, datetime | None, int]] = {}
    since = since or feed.started_at
    days = (
        MeterReport.objects.filter(feed=feed, counted_at__gte=day_of(since)[0])
        .exclude(status=Status.EMPTY)
        .annotate(day=TruncDay("counted_at", tzinfo=UTC))
        .order_by()
    )
    accepted = Q(status=Status.ACCEPTED)
    sums = days.values_list("account", "day").annotate(
        total=Sum("value", filter=accepted), last=Max("settled_at", filter=accepted), unsent=Count("pk", filter=Q(status=Status.WAITING))
    )
    for account, day, total, last, unsent in sums:
        told[account, day] = (int(total or 0), last, unsent)
    found: Sums = {}
    facts: Sums = {}
    for account, day, value, looked_at in MeterHolding.objects.filter(feed=feed, day__gte=day_of(since)[0]).values_list(
        "account", "day", "value", "looked_at"
    ):
        of_day, last, unsent = told.get((account, day), (0, None, 0))
        if not unsent and (last is None or last < looked_at - _COUNTED_AFTER):
            found[f"{account} on {day:%Y-%m-%d}"], facts[f"{account} on {day:%Y-%m-%d}"] = value, of_day
    return found, facts
