"""Read what was used: grouped sums for pages and the API, and single events."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from django.db.models import F, Q, Sum

from billing.models import Account, UsageEvent, UsageRollup
from billing.money import Nanos

GroupBy = Literal["sku", "source", "day", "hour"]
_COLUMN: Final[dict[GroupBy, str]] = {"sku": "sku", "source": "source", "day": "hour", "hour": "hour"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSum:
    """The usage of one group, less what was refunded."""

    group: str | datetime  # The SKU, the source, or the first moment of the hour or day (UTC).
    unit: str  # Groups are split by it: calls and tokens do not add up.
    events: int
    units: int
    charge_nanos: Nanos


def usage_by(account: Account, *, group_by: GroupBy, since: datetime, until: datetime, livemode: bool | None = True) -> list[UsageSum]:
    """Return an account's usage from the hourly sums, ascending by group.

    Args:
        account: Whose.
        group_by: What makes a group.
        since: First moment; sums are by the hour, so it counts from the start of its hour.
        until: First moment after, likewise.
        livemode: Live calls only (True), test calls only (False) or both (None).
    """
    column = _COLUMN[group_by]
    rollups = UsageRollup.objects.filter(account=account, hour__gte=since.replace(minute=0, second=0, microsecond=0), hour__lt=until)
    if livemode is not None:
        rollups = rollups.filter(livemode=livemode)
    rows = (
        rollups.values(column, "unit")
        .annotate(
            net_events=Sum(F("events") - F("refunded_events")),
            net_units=Sum(F("units") - F("refunded_units")),
            net_nanos=Sum(F("charge_nanos") - F("refunded_nanos")),
        )
        .order_by(column, "unit")
    )
    sums: dict[tuple[str | datetime, str], list[int]] = {}
    for row in rows:
        group = row[column].replace(hour=0) if group_by == "day" else row[column]
        total = sums.setdefault((group, row["unit"]), [0, 0, 0])
        for place, name in enumerate(("net_events", "net_units", "net_nanos")):
            total[place] += int(row[name])  # PostgreSQL sums 64-bit columns to numeric.
    return [
        UsageSum(group=group, unit=unit, events=events, units=units, charge_nanos=Nanos(charge))
        for (group, unit), (events, units, charge) in sums.items()
    ]


def events_for(
    account: Account,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    sku: str | None = None,
    after: UUID | None = None,
    limit: int = 20,
    late_on: datetime | None = None,
    is_late: bool | None = None,
) -> Sequence[UsageEvent]:
    """Return a page of an account's events with their refunds, newest first.

    Args:
        account: Whose.
        since: First moment, or None.
        until: First moment after, or None.
        sku: Of this SKU only, or None.
        after: The last event of the page before, or None for the first page. An id that is not
            the account's gives an empty page.
        limit: Most events to return.
        late_on: Late calls on this month's invoice only, by its first moment, or None.
        is_late: Whether calls that came after their month was closed; None: both kinds.
    """
    events = UsageEvent.objects.filter(account=account).select_related("refund")
    if since is not None:
        events = events.filter(occurred_at__gte=since)
    if until is not None:
        events = events.filter(occurred_at__lt=until)
    if sku is not None:
        events = events.filter(sku=sku)
    if late_on is not None:
        events = events.filter(late__period=late_on)
    if is_late is not None:
        events = events.filter(late__isnull=not is_late)
    if after is not None:
        last = UsageEvent.objects.filter(account=account, pk=after).values_list("occurred_at", flat=True).first()
        if last is None:
            return []
        # The first condition alone is what the index is searched by.
        events = events.filter(occurred_at__lte=last).filter(Q(occurred_at__lt=last) | Q(pk__lt=after))
    return list(events.order_by("-occurred_at", "-pk")[:limit])
