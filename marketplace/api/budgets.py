"""`/v1/budgets`: what may be spent, by whom and until when; caps are set here."""

from typing import Any

from django.db import transaction
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace import budgets
from marketplace.api.authentication import key_of, tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, read_body
from marketplace.api.fields import Amount, Form, Whole
from marketplace.api.lists import list_of
from marketplace.api.organization import check_live
from marketplace.budgets import BudgetState
from marketplace.errors import NotFound
from marketplace.objects.budgets import BudgetView

TAG = "Billing"


class BudgetPatch(Form):
    """What can be changed of a budget."""

    limit = Amount(allow_null=True, required=False, help_text="null lifts the cap. The balance has none: top up instead.")
    thresholds = serializers.ListField(
        child=Whole(min_value=1, max_value=100), required=False, max_length=10, help_text="Empty: never told."
    )


class Budgets(Endpoint):
    """The organization's budgets."""

    scope = {"GET": "billing:read"}

    @operation("list_budgets", summary="List budgets", tag=TAG, answers=list_of(BudgetView, "BudgetList"))
    def get(self, request: Request) -> Response:
        """List the balance, the organization's budgets, and those of live keys that have a cap."""
        check_live(request)
        rows = BudgetView(budgets.list_budgets(tenant_of(request)), many=True).data
        return Response({"object": "list", "data": rows, "has_more": False, "url": request.path})


class OneBudget(Endpoint):
    """One budget."""

    scope = {"GET": "billing:read", "PATCH": "billing:write"}

    @operation("get_budget", summary="Show a budget", tag=TAG, answers=BudgetView, refusals=["not_found"])
    def get(self, request: Request, budget_id: str) -> Response:
        """Show one budget, with or without a cap."""
        check_live(request)
        return Response(BudgetView(_find(request, budget_id)).data)

    @operation(
        "update_budget",
        summary="Set a cap, or when to be told",
        tag=TAG,
        takes=BudgetPatch,
        answers=BudgetView,
        refusals=["not_found", "request_malformed", "body_too_large"],
    )
    def patch(self, request: Request, budget_id: str) -> Response:
        """Set or lift the cap, and the percentages at which the organization is told. It holds everywhere within a second."""
        check_live(request)
        budget = _find(request, budget_id)
        fields: dict[str, Any] = read_body(request, BudgetPatch).validated_data
        with transaction.atomic():
            if "limit" in fields:
                budgets.set_limit(tenant_of(request), budget, limit_nanos=fields["limit"], by=key_of(request))
            if "thresholds" in fields:
                budgets.set_thresholds(tenant_of(request), budget, fields["thresholds"], by=key_of(request))
        return Response(BudgetView(_find(request, budget_id)).data)


def _find(request: Request, budget_id: str) -> BudgetState:
    budget = budgets.find_budget(tenant_of(request), budget_id)
    if budget is None:
        raise NotFound
    return budget
