"""The request log: every call of the organization's keys, answered or refused, and one call in detail."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import Q, QuerySet
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from billing.ids import parse_public_id, public_id
from billing.models import UsageEvent, UsageRollup
from billing.periods import hour_of
from marketplace.models import ApiKey, CatalogueModel, RequestLog
from marketplace.web.access import MemberRequest, member_required

_PAGE: Final = 50
# All refusals are in an index of their own, which is used where its condition is asked for.
_STATUSES: Final = {
    "answered": Q(status__lt=400),
    "refused": Q(status__gte=400) & Q(status__lt=500),
    "failed": Q(status__gte=400) & Q(status__gte=500),
}
# The newest calls, whose models can be filtered by even where none was answered.
_NEWEST: Final = 1000


@require_safe
@member_required
def list_requests(request: MemberRequest) -> HttpResponse:
    """Show the request log, newest first, a page at a time."""
    organization = request.organization
    chosen = request.GET
    rows = _filtered(request, chosen).select_related("version__model__owner", "key").order_by("-occurred_at", "-pk")
    if cursor := chosen.get("before"):
        rows = rows.filter(_older_than(request, cursor))
    page = list(rows[: _PAGE + 1])
    context: dict[str, Any] = {
        "rows": page[:_PAGE],
        "older": _query(chosen, before=public_id("req", page[_PAGE - 1].pk)) if len(page) > _PAGE else "",
        "newest": _query(chosen, before="") if cursor else "",
        "chosen": chosen,
        "is_filtered": any(chosen.get(name) for name in ("status", "model", "key", "mode")),
        "keys": organization.keys.issued().order_by("name"),
        "paths": _called_paths(request),
    }
    return render(request, "requests/list.html", context)


def _filtered(request: MemberRequest, chosen: QueryDict) -> QuerySet[RequestLog]:
    """Apply the filters that are known; an unknown value finds nothing, and a foreign key's id neither."""
    rows = request.organization.requests.all()
    if status := chosen.get("status"):
        rows = rows.filter(_STATUSES[status]) if status in _STATUSES else rows.none()
    if mode := chosen.get("mode"):
        rows = rows.filter(livemode=mode == "live")
    if path := chosen.get("model"):
        owner, _, name = path.partition("/")
        rows = rows.filter(version__model__owner__slug=owner, version__model__name=name)
    if key_id := chosen.get("key"):
        rows = rows.filter(key=_get_key(request, key_id))
    return rows


def _get_key(request: MemberRequest, key_id: str) -> ApiKey:
    uuid = parse_public_id("key", key_id)
    key = request.organization.keys.filter(pk=uuid).first() if uuid else None
    if key is None:
        raise Http404
    return key


def _older_than(request: MemberRequest, cursor: str) -> Q:
    """Where the page before ended: by time, and by id among calls of one microsecond."""
    last = get_request(request, cursor)
    return Q(occurred_at__lt=last.occurred_at) | Q(occurred_at=last.occurred_at, pk__lt=last.pk)


def _query(chosen: QueryDict, *, before: str) -> str:
    query = chosen.copy()
    query["before"] = before
    if not before:
        del query["before"]
    return "?" + query.urlencode()


def _called_paths(request: MemberRequest) -> list[str]:
    """Return the models that the log may be filtered by: from the hourly sums, and of the newest calls, refused ones too."""
    organization = request.organization
    kept_since = timezone.now() - timedelta(days=settings.REQUEST_LOG_DAYS)
    sums = UsageRollup.objects.filter(account=organization.account, hour__gte=hour_of(kept_since))
    skus = sums.values_list("sku", flat=True).distinct().order_by()
    newest = organization.requests.order_by("-occurred_at").values_list("version", flat=True)[:_NEWEST]
    models = CatalogueModel.objects.filter(versions__in=set(newest) - {None})
    pairs = models.values_list("owner__slug", "name").distinct()
    return sorted({sku.rpartition("@")[0] for sku in skus} | {f"{owner}/{name}" for owner, name in pairs})


def get_request(request: MemberRequest, request_id: str) -> RequestLog:
    """Return one of the organization's calls.

    Raises:
        Http404: there is none of that id, or it is another organization's.
    """
    uuid = parse_public_id("req", request_id)
    rows = request.organization.requests.select_related("version__model__owner", "key")
    call = rows.filter(pk=uuid).first() if uuid else None
    if call is None:
        raise Http404
    return call


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a call's time, as the bar draws it (in percent of the whole)."""

    name: str
    microseconds: int
    x: float
    width: float


@require_safe
@member_required
def show_request(request: MemberRequest, request_id: str) -> HttpResponse:
    """Show one call: what came of it, where its time went, what it cost."""
    call = get_request(request, request_id)
    events = UsageEvent.objects.filter(account=request.organization.account, pk=call.pk).select_related("refund", "price")
    context = {"call": call, "request_id": request_id, "stages": stages_of(call), "event": events.first()}
    return render(request, "requests/request.html", context)


def stages_of(call: RequestLog) -> list[Stage]:
    """Return where a call's time went, in order; of a refused call all is the rest."""
    known = [("auth", call.auth_us), ("limit", call.limit_us), ("queue", call.queue_us), ("infer", call.infer_us)]
    spent = sum(microseconds for _, microseconds in known)
    total = max(call.total_us, spent, 1)
    stages, x = [], 0.0
    for name, microseconds in (*known, ("rest", total - spent)):
        if not microseconds:
            continue
        width = round(100 * microseconds / total, 2)
        stages.append(Stage(name, microseconds, round(x, 2), width))
        x += width
    return stages
