"""The request log of all tenants: what was asked, not what was sent."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from billing.ids import parse_public_id, public_id
from marketplace.admin.facts import LongFactAdmin, ModeFilter, NamedColumns, show_money
from marketplace.models import RequestLog


class OutcomeFilter(admin.SimpleListFilter):
    """Answered or refused. Django's own filter would read the whole log to list its values."""

    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002 (Django's signature)
        """What can be chosen."""
        return [("answered", "Answered"), ("refused", "Refused"), ("failed", "Failed (5xx)")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[RequestLog]) -> QuerySet[RequestLog]:  # noqa: ARG002 (Django's signature)
        """Return what was chosen."""
        match self.value():
            case "answered":
                return queryset.filter(status=200)
            case "refused":
                return queryset.exclude(status=200)
            case "failed":
                return queryset.filter(status__gte=500)
            case _:
                return queryset


@admin.register(RequestLog)
class RequestLogAdmin(NamedColumns, LongFactAdmin):
    """All calls of known callers, the newest first."""

    list_display = ("shown_id", "occurred_at", "organization", "version", "mode", "status", "code", "units", "cost", "total_us")
    list_filter = (OutcomeFilter, ModeFilter)
    list_select_related = ("organization__account", "version__model__owner")
    search_fields = ("organization__slug",)
    search_help_text = "A Request-Id (req_...), or an organization"
    ordering = ("-occurred_at",)
    # Not among them: `reply`, which is the customer's.
    fields = (
        *("shown_id", "occurred_at", "organization", "key", "version", "mode", "route", "status", "code"),
        *("unit", "units", "cost", "batch_rows", "auth_us", "limit_us", "queue_us", "infer_us", "total_us"),
    )
    readonly_fields = ("shown_id", "mode", "cost")

    @display(description="Request")
    def shown_id(self, call: RequestLog) -> str:
        """Its Request-Id."""
        return public_id("req", call.pk)

    @display(description="Cost", ordering="charge_nanos")
    def cost(self, call: RequestLog) -> str:
        """What it was charged."""
        return show_money(call.charge_nanos, call.organization.account.currency, places=9)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[RequestLog], search_term: str
    ) -> tuple[QuerySet[RequestLog], bool]:
        """Find a call by the Request-Id that a customer names, or by organization."""
        value = parse_public_id("req", search_term.strip())
        if value:
            return queryset.filter(pk=value), False
        found: tuple[QuerySet[RequestLog], bool] = super().get_search_results(request, queryset, search_term)
        return found
