"""`/v1/usage`: what the organization used, summed by model, key, day or hour; as JSON or CSV."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import usage
from billing.ids import public_id
from billing.models import Price
from billing.money import to_decimal_string
from billing.periods import month_of, render_moment
from marketplace.api.authentication import key_of, tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, read_query
from marketplace.api.fields import Amount, Constant, Form, Moment, View
from marketplace.errors import RequestMalformed

TAG = "Usage"
_COLUMNS: Final = ("group", "unit", "calls", "units", "cost", "currency")
_GROUPS: Final[dict[str, usage.GroupBy]] = {"model": "sku", "key": "source", "day": "day", "hour": "hour"}
# Longest span that is answered in one piece: 744 hours, or ten years of anything else.
_MAX_DAYS: Final = {"hour": 31}
_MAX_DAYS_ELSE: Final = 3660


class UsageQuery(Form):
    """What to sum."""

    group_by = serializers.ChoiceField(choices=list(_GROUPS), default="day")
    since = Moment(required=False, help_text="First moment; by default the start of the month, UTC. Counts from the start of its hour.")
    until = Moment(required=False, help_text="First moment after; by default now.")
    livemode = serializers.BooleanField(required=False, default=True, help_text="False: test calls, which are free.")
    format = serializers.ChoiceField(choices=["json", "csv"], required=False, help_text="As `Accept: text/csv`.")


class UsageSumView(View):
    """The usage of one group, less what was refunded."""

    group = serializers.CharField(help_text="owner/model, a key's id, or the first moment of the day or hour.")
    unit = serializers.ChoiceField(choices=Price.Unit.values, help_text="Groups are split by it: calls and tokens do not add up.")
    calls = serializers.IntegerField()
    units = serializers.IntegerField()
    cost = Amount()


class UsageView(View):
    """Sums of usage."""

    object = Constant("usage")
    group_by = serializers.ChoiceField(choices=list(_GROUPS))
    since = Moment()
    until = Moment()
    livemode = serializers.BooleanField()
    currency = serializers.CharField()
    data = UsageSumView(many=True)  # type: ignore[assignment]  # A field here, a property of serializers.
    total_calls = serializers.IntegerField()
    total_cost = Amount()


class Usage(Endpoint):
    """The organization's usage."""

    scope = {"GET": "usage:read"}

    @operation(
        "get_usage", summary="Show usage", tag=TAG, query=UsageQuery, answers=UsageView, refusals=["request_malformed"], is_csv_too=True
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Sum the organization's usage; with `Accept: text/csv` or `format=csv` as a CSV file."""
        query: dict[str, Any] = read_query(request, UsageQuery).validated_data
        since, until = _span(query)
        account = tenant_of(request).account
        livemode = bool(query["livemode"]) and key_of(request).livemode  # A test key sees test calls.
        sums = usage.usage_by(account, group_by=_GROUPS[query["group_by"]], since=since, until=until, livemode=livemode)
        rows = _rows(sums, by=query["group_by"])
        if query.get("format") == "csv" or (not query.get("format") and "text/csv" in request.headers.get("Accept", "")):
            return _csv(rows, currency=account.currency)
        fields = {
            "group_by": query["group_by"],
            "since": since,
            "until": until,
            "livemode": livemode,
            "currency": account.currency,
            "data": rows,
            "total_calls": sum(row["calls"] for row in rows),
            "total_cost": sum(row["cost"] for row in rows),
        }
        return Response(UsageView(fields).data)


def _span(query: dict[str, Any]) -> tuple[datetime, datetime]:
    until: datetime = query.get("until") or datetime.now(UTC)
    since: datetime = query.get("since") or month_of(until)[0]
    if since >= until:
        message = "until must be later than since."
        raise RequestMalformed(message, param="until")
    days = _MAX_DAYS.get(query["group_by"], _MAX_DAYS_ELSE)
    if until - since > timedelta(days=days):
        message = f"Grouped by {query['group_by']}, usage can be asked for {days} days at once."
        raise RequestMalformed(message, param="since")
    return since, until


def _rows(sums: Sequence[usage.UsageSum], *, by: str) -> list[dict[str, Any]]:
    """Return the sums by names of ours: a model's versions add up, a key goes by its public id."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in sums:
        group = _name(one.group, by=by)
        row = rows.setdefault((group, one.unit), {"group": group, "unit": one.unit, "calls": 0, "units": 0, "cost": 0})
        row["calls"] += one.events
        row["units"] += one.units
        row["cost"] += one.charge_nanos
    return list(rows.values())


def _name(group: str | datetime, *, by: str) -> str:
    if isinstance(group, datetime):
        return render_moment(group)
    return public_id("key", UUID(group)) if by == "key" else group.rpartition("@")[0]


def _csv(rows: Sequence[dict[str, Any]], *, currency: str) -> HttpResponse:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    writer.writerows({**row, "cost": to_decimal_string(row["cost"]), "currency": currency} for row in rows)
    headers = {"Content-Disposition": 'attachment; filename="usage.csv"'}
    return HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)
