"""The dashboard: money left, calls, spend, latency, and how they went over time."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from billing.periods import day_of, hour_of, month_of
from billing.usage import usage_by
from marketplace.latency import latency_of_organization
from marketplace.web.access import MemberRequest, member_required
from marketplace.web.charts import Chart, Point, bar_chart
from marketplace.web.tags import money, number

_RECENT: Final = 8
_HOURS: Final = 24
_DAYS: Final = 30


@require_safe
@member_required
def show_dashboard(request: MemberRequest) -> HttpResponse:
    """Show the dashboard."""
    return render(request, "dashboard/dashboard.html", {**_figures(request), **_charts(request)})


@require_safe
@member_required
def show_live(request: MemberRequest) -> HttpResponse:
    """Answer the dashboard's polling with its figures and recent requests."""
    return render(request, "dashboard/live.html", {**_figures(request), **_charts(request)})


def _figures(request: MemberRequest) -> dict[str, Any]:
    organization, now = request.organization, timezone.now()
    month = usage_by(organization.account, group_by="sku", since=month_of(now)[0], until=now, livemode=None)
    requests = organization.requests.select_related("version__model__owner", "key").order_by("-occurred_at")
    return {
        "calls": sum(row.events for row in month),
        "spend_nanos": sum(row.charge_nanos for row in month),
        "latency": latency_of_organization(organization),
        "keys": organization.keys.live().issued().count(),
        "recent": requests[:_RECENT],
    }


def _charts(request: MemberRequest) -> dict[str, Any]:
    """Lay out calls and spend per hour of the last day, or per day of the last month."""
    by_day = request.GET.get("period") == "30d"
    now = timezone.now()
    step = timedelta(days=1) if by_day else timedelta(hours=1)
    last = day_of(now)[0] if by_day else hour_of(now)
    buckets = [last - step * back for back in reversed(range(_DAYS if by_day else _HOURS))]
    rows = usage_by(request.organization.account, group_by="day" if by_day else "hour", since=buckets[0], until=now, livemode=None)
    events, charges = Counter[object](), Counter[object]()  # Sums come split by unit.
    for row in rows:
        events[row.group] += row.events
        charges[row.group] += row.charge_nanos
    calls = _chart(buckets, events, by_day=by_day, is_money=False)
    spend = _chart(buckets, charges, by_day=by_day, is_money=True)
    rows_shown = list(zip(calls.bars, spend.bars, strict=True))
    return {"period": "30d" if by_day else "24h", "calls_chart": calls, "spend_chart": spend, "chart_rows": rows_shown}


def _chart(buckets: list[datetime], values: Mapping[object, int], *, by_day: bool, is_money: bool) -> Chart:
    points = [
        Point(
            tick=bucket.strftime("%m-%d" if by_day else "%H:%M"),
            title=bucket.strftime("%Y-%m-%d" if by_day else "%m-%d %H:%M"),
            value=values.get(bucket, 0),
        )
        for bucket in buckets
    ]
    return bar_chart(points, write=money if is_money else number)
