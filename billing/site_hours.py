"""Sum up the whole site's usage by the hour, so that the operator's pages need not read every account's hours.

What is summed up is told by the rows: all hours before the last one's end. What came since is read from the accounts'
own hourly sums, a few rows each. A refund of an hour that was summed up before shows with the next hour.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from django.db.models import F, Max, Q, QuerySet, Sum

from billing.models import LedgerAccount, LedgerEntry, SiteHour, UsageRefund, UsageRollup
from billing.money import CURRENCY
from billing.payable import MOVES
from billing.periods import EPOCH, hour_of
from billing.posting import POST_AFTER
from billing.sql import as_text

_HOUR: Final = timedelta(hours=1)
# Summed up again with each new hour: calls that a gateway could write only later.
_AGAIN: Final = timedelta(hours=24)
_PROVIDERS: Final = "provider:"
_USED: Final = ("events", "charge_nanos")
_Key = tuple[datetime, str]  # The first moment of an hour or a month, and a currency.


class SiteSum(NamedTuple):
    """What a span came to."""

    events: int = 0
    charge_nanos: int = 0
    share_nanos: int = 0

    def plus(self, other: "SiteSum") -> "SiteSum":
        """Return both together."""
        return SiteSum(*(one + more for one, more in zip(self, other, strict=True)))


def sum_hours(*, now: datetime, everything: bool = False) -> int:
    """Sum up the hours that are over, and those before that have changed since; return how many rows were written.

    Safe to run twice, or at the same time as itself: the same facts come to the same sums.
    """
    until, last = hour_of(now - POST_AFTER), summed_until()
    if last >= until and not everything:
        return 0
    since = EPOCH if everything or last == EPOCH else last - _AGAIN
    used = Q(hour__gte=since, hour__lt=until)
    rows = _sums(used, Q(transaction__created_at__gte=since, transaction__created_at__lt=until))
    rows.setdefault((until - _HOUR, CURRENCY), SiteSum())  # Says how far it went, in a silent hour too.
    _write(rows, columns=SiteSum._fields)
    refunds = (
        UsageRefund.objects.filter(created_at__gte=last - _HOUR, event__occurred_at__lt=since)
        if since > EPOCH
        else UsageRefund.objects.none()
    )
    again = {hour_of(moment) for moment in refunds.values_list("event__occurred_at", flat=True)}
    changed = _used(UsageRollup.objects.filter(hour__in=again)) if again else {}
    _write(changed, columns=_USED)  # What was posted in those hours stays as it was.
    return len(rows) + len(changed)


def summed_until() -> datetime:
    """Return the end of the last hour that was summed up; 1970 where none was."""
    last: datetime | None = SiteHour.objects.aggregate(last=Max("hour"))["last"]
    return EPOCH if last is None else last + _HOUR


def sums_by_month(since: datetime) -> Mapping[_Key, SiteSum]:
    """Return what each month since the first moment of one came to, by its first moment and currency."""
    until = max(since, summed_until())
    months: dict[_Key, SiteSum] = defaultdict(SiteSum)
    stored = SiteHour.objects.filter(hour__gte=since).annotate(month=as_text("hour", "2026-11")).order_by().values_list("month", "currency")
    for month, currency, *sums in stored.annotate(Sum("events"), Sum("charge_nanos"), Sum("share_nanos")):
        months[first_of(month), currency] = SiteSum(*map(int, sums))
    for (hour, currency), more in _sums(Q(hour__gte=until), Q(transaction__created_at__gte=until)).items():
        key = hour.replace(day=1, hour=0), currency
        months[key] = months[key].plus(more)
    return months


def used_since(since: datetime) -> Mapping[str, SiteSum]:
    """Return what calls came to since the first moment of an hour, by currency; the shares are left at 0."""
    totals: dict[str, SiteSum] = defaultdict(SiteSum)
    stored = SiteHour.objects.filter(hour__gte=since).order_by().values_list("currency")
    for currency, *sums in stored.annotate(Sum("events"), Sum("charge_nanos")):
        totals[currency] = SiteSum(*map(int, sums))
    for (_, currency), more in _used(UsageRollup.objects.filter(hour__gte=max(since, summed_until()))).items():
        totals[currency] = totals[currency].plus(more)
    return totals


def first_of(month: str) -> datetime:
    """Return the first moment of a month such as "2026-11"."""
    return datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)


def _sums(used: Q, posted: Q) -> dict[_Key, SiteSum]:
    sums = _used(UsageRollup.objects.filter(used))
    providers = dict(LedgerAccount.objects.filter(name__startswith=_PROVIDERS).values_list("pk", "currency"))
    # By time: the sum of 0 keeps SQLite from the index by account, and so from all that providers ever earned.
    entries = LedgerEntry.objects.annotate(whose=F("ledger_account_id") + 0).filter(posted, whose__in=providers)
    by_hour = entries.exclude(transaction__kind__in=MOVES).annotate(at=as_text("transaction__created_at", "2026-11-30 16")).order_by()
    for text, provider, share in by_hour.values_list("at", "whose").annotate(Sum("amount_nanos")):
        key = datetime.fromisoformat(text).replace(tzinfo=UTC), providers[provider]
        sums[key] = sums.get(key, SiteSum()).plus(SiteSum(share_nanos=int(share)))
    return sums


def _used(rollups: QuerySet[UsageRollup]) -> dict[_Key, SiteSum]:
    rows: QuerySet[Any, Any] = rollups.filter(livemode=True).order_by().values_list("hour", "account__currency")
    found = rows.annotate(n=Sum(F("events") - F("refunded_events")), c=Sum(F("charge_nanos") - F("refunded_nanos")))
    return {(hour, currency): SiteSum(int(events), int(charge)) for hour, currency, events, charge in found}


def _write(sums: Mapping[_Key, SiteSum], *, columns: Sequence[str]) -> None:
    rows = [SiteHour(hour=hour, currency=currency, **one._asdict()) for (hour, currency), one in sums.items()]
    SiteHour.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["hour", "currency"], update_fields=list(columns), batch_size=500
    )
