"""`/v1/requests`: the log of the organization's calls, answered and refused."""

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.ids import parse_public_id
from marketplace.api.authentication import key_of, tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, read_query
from marketplace.api.fields import Amount, Constant, Moment, PublicId, View
from marketplace.api.lists import list_of, page_form, read_page, render_list
from marketplace.errors import NotFound
from marketplace.models import RequestLog

TAG = "Requests"


class TimingView(View):
    """Where the time went, in microseconds, until the charge went to the disk."""

    auth_us = serializers.IntegerField()
    limit_us = serializers.IntegerField()
    queue_us = serializers.IntegerField()
    infer_us = serializers.IntegerField()
    total_us = serializers.IntegerField()


class RequestView(View):
    """One call. Its input and output are not kept."""

    object = Constant("request")
    id = PublicId("req")
    key = PublicId("key", source="key_id")
    model = serializers.SerializerMethodField()
    version = serializers.SerializerMethodField()
    livemode = serializers.BooleanField()
    route = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField(help_text="Why it was refused; empty if it was answered.")
    unit = serializers.CharField()
    units = serializers.IntegerField()
    cost = Amount(source="charge_nanos")
    currency = serializers.CharField(source="organization.account.currency")
    batch_rows = serializers.IntegerField(help_text="Rows that shared the run.")
    timing = TimingView(source="*")
    occurred_at = Moment()

    def get_model(self, call: RequestLog) -> str | None:
        """Return owner/name; None where none was found."""
        return call.version.model.path if call.version else None

    def get_version(self, call: RequestLog) -> int | None:
        """Return the version's number."""
        return call.version.number if call.version else None


RequestsQuery = page_form(
    "req",
    "RequestsQuery",
    status=serializers.IntegerField(required=False, min_value=100, max_value=599),
    code=serializers.CharField(required=False, max_length=40),
    key=PublicId("key", required=False),
    model=serializers.RegexField(r"\A[a-z0-9-]{1,40}/[a-z0-9-]{1,40}\Z", required=False, help_text="owner/name"),
    livemode=serializers.BooleanField(required=False, default=None, allow_null=True),
    since=Moment(required=False),
    until=Moment(required=False),
)


def _visible(request: Request) -> QuerySet[RequestLog]:
    """The organization's calls; to a test key only the test ones."""
    rows = tenant_of(request).requests.select_related("version__model__owner", "organization__account")
    return rows if key_of(request).livemode else rows.filter(livemode=False)


def _filtered(rows: QuerySet[RequestLog], query: dict[str, Any]) -> QuerySet[RequestLog]:
    columns = {
        "status": "status",
        "code": "code",
        "key": "key_id",
        "livemode": "livemode",
        "since": "occurred_at__gte",
        "until": "occurred_at__lt",
    }
    rows = rows.filter(**{column: query[name] for name, column in columns.items() if query.get(name) is not None})
    if path := query.get("model"):
        owner, _, name = path.partition("/")
        rows = rows.filter(version__model__owner__slug=owner, version__model__name=name)
    return rows


class Requests(Endpoint):
    """The log."""

    scope = {"GET": "requests:read"}

    @operation(
        "list_requests",
        summary="List requests",
        tag=TAG,
        query=RequestsQuery,
        answers=list_of(RequestView, "RequestList"),
        refusals=["request_malformed"],
    )
    def get(self, request: Request) -> Response:
        """List the organization's calls, the newest first."""
        query = read_query(request, RequestsQuery).validated_data
        page = read_page(_filtered(_visible(request), query), query, by="occurred_at")
        return Response(render_list(page, request, RequestView(page.rows, many=True).data))


class LoggedRequest(Endpoint):
    """One call."""

    scope = {"GET": "requests:read"}

    @operation("get_request", summary="Show a request", tag=TAG, answers=RequestView, refusals=["not_found"])
    def get(self, request: Request, request_id: str) -> Response:
        """Show one call by the Request-Id of its reply."""
        value = parse_public_id("req", request_id)
        call = _visible(request).filter(pk=value).first() if value else None
        if call is None:
            raise NotFound
        return Response(RequestView(call).data)
