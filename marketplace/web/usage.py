"""Usage: calls, units and charges by model, key or day, on the page and as CSV."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from billing.ids import public_id
from billing.money import to_decimal_string
from billing.periods import day_of, month_of
from billing.usage import GroupBy, UsageSum, usage_by
from marketplace.models import ApiKey
from marketplace.web.access import MemberRequest, member_required

_GROUPS: Final[dict[str, GroupBy]] = {"model": "sku", "key": "source", "day": "day"}
_PERIODS: Final = ("month", "last-month", "7d", "30d", "90d")
# A spreadsheet takes a cell that starts so for a formula; names of keys are anybody's choice.
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Row:
    """The usage of one model, key or day."""

    name: str
    reference: str  # A public key id, or empty.
    unit: str
    events: int
    units: int
    charge_nanos: int


@require_safe
@member_required
def show_usage(request: MemberRequest) -> HttpResponse:
    """Show what was used in a period; with ?format=csv, send it as a file."""
    group = request.GET.get("by", "model")
    group = group if group in _GROUPS else "model"
    period = request.GET.get("period", "month")
    period = period if period in _PERIODS else "month"
    since, until = period_bounds(period, now=timezone.now())
    rows = _rows(request, group, since, until)
    if request.GET.get("format") == "csv":
        return _csv(rows, group=group, since=since, currency=request.organization.account.currency)
    context: dict[str, Any] = {
        "rows": rows,
        "by": group,
        "period": period,
        "since": since,
        "until": until,
        "total_events": sum(row.events for row in rows),
        "total_nanos": sum(row.charge_nanos for row in rows),
    }
    return render(request, "usage/usage.html", context)


def period_bounds(period: str, *, now: datetime) -> tuple[datetime, datetime]:
    """Return the first moment of a period and the one after its end, in UTC."""
    this_month = month_of(now)[0]
    if period == "last-month":
        return month_of(this_month - timedelta(days=1))[0], this_month
    if period.endswith("d"):
        return day_of(now)[0] - timedelta(days=int(period[:-1]) - 1), now
    return this_month, now


def _rows(request: MemberRequest, group: str, since: datetime, until: datetime) -> list[Row]:
    found = usage_by(request.organization.account, group_by=_GROUPS[group], since=since, until=until)
    if group == "key":
        keys = {str(key.pk): key for key in request.organization.keys.filter(pk__in=[row.group for row in found])}
        return [_row(row, keys.get(str(row.group)), name=_("Deleted key")) for row in found]
    return [_row(row, None, name=row.group.strftime("%Y-%m-%d") if isinstance(row.group, datetime) else row.group) for row in found]


def _row(used: UsageSum, key: ApiKey | None, *, name: str) -> Row:
    return Row(
        name=key.name if key else name,
        reference=public_id("key", key.pk) if key and not key.playground else "",
        unit=used.unit,
        events=used.events,
        units=used.units,
        charge_nanos=used.charge_nanos,
    )


def _csv(rows: Sequence[Row], *, group: str, since: datetime, currency: str) -> HttpResponse:
    """Return the rows as RFC 4180 CSV; amounts are exact decimals."""
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="usage-by-{group}-{since:%Y-%m-%d}.csv"'
    writer = csv.writer(response)
    writer.writerow([group, "id", "calls", "unit", "units", "charge", "currency"])
    for row in rows:
        name = f"'{row.name}" if row.name.startswith(_FORMULA_STARTS) else row.name
        writer.writerow([name, row.reference, row.events, row.unit, row.units, to_decimal_string(row.charge_nanos), currency])
    return response
