"""Budgets: how full each is, its cap, and when to be told."""

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from billing.ids import public_id
from marketplace import budgets
from marketplace.budgets import BudgetState
from marketplace.models import ApiKey
from marketplace.models.caps import BALANCE
from marketplace.web.access import MemberRequest, member_required
from marketplace.web.budget_forms import BudgetForm

Row = tuple[BudgetState, BudgetForm]


@require_safe
@member_required
def show_budgets(request: MemberRequest) -> HttpResponse:
    """Show the balance, the organization's caps and those of its keys."""
    return _render(request, [(state, BudgetForm(budget=state)) for state in budgets.list_budgets(request.organization)])


@require_POST
@member_required
def change_budget(request: MemberRequest, budget_id: str) -> HttpResponse:
    """Set or lift a cap, and when to be told."""
    budget = budgets.find_budget(request.organization, budget_id)
    if budget is None:
        raise Http404
    form = BudgetForm(request.POST, budget=budget)
    if not form.is_valid():
        rows = [(state, BudgetForm(budget=state)) for state in budgets.list_budgets(request.organization) if state.id != budget_id]
        return _render(request, [(budget, form), *rows], status=422)
    with transaction.atomic():
        if "limit" in form.changed_data:
            budgets.set_limit(request.organization, budget, limit_nanos=form.cleaned_data["limit"], by=request.user)
        if "thresholds" in form.changed_data:
            budgets.set_thresholds(request.organization, budget, form.cleaned_data["thresholds"], by=request.user)
    messages.success(request, _("The budget is set."))
    return redirect("key", key_id=public_id("key", budget.key.pk)) if budget.key else redirect("budgets")


def budgets_of_key(request: MemberRequest, key: ApiKey) -> list[Row]:
    """Return a key's daily and total budget for its own page, which shows the monthly one itself."""
    states = budgets.list_budgets(request.organization, key=key)
    return [(state, BudgetForm(budget=state)) for state in states if state.name.interval != "month"]


def _render(request: MemberRequest, rows: list[Row], *, status: int = 200) -> HttpResponse:
    context = {
        "balance_rows": [row for row in rows if row[0].name == BALANCE],
        "own_rows": [row for row in rows if row[0].name.holder == "organization"],
        "key_rows": [row for row in rows if row[0].key],
    }
    return render(request, "budgets/list.html", context, status=status)
