"""Plans and who has them. Two deeds: offer a plan of the whole catalogue, and retire one."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from billing.errors import PlanInvalid
from billing.models import EVERYTHING, Plan, Subscription
from marketplace.admin.deeds import ConfirmForm, bind, find_target, operator_of, run_deed
from marketplace.admin.facts import FactAdmin, NamedColumns
from marketplace.amounts import money, units_of
from marketplace.plan_forms import PlanForm
from marketplace.plans import offer_plan, retire_plan


class OperatorPlanForm(PlanForm):
    """The same form, as the operator's pages look."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            if name in {"unit", "quota"}:
                field.widget = UnfoldAdminSelectWidget(choices=field.widget.choices)
            elif name in {"included_units", "rate_per_minute"}:
                field.widget = UnfoldAdminIntegerFieldWidget()
            else:
                field.widget = UnfoldAdminTextInputWidget()


@admin.register(Plan)
class PlanAdmin(NamedColumns, FactAdmin):
    """All plans, those of the whole catalogue marked with *."""

    list_display = ("shown_sku", "name", "fee", "included", "quota", "subscribers", "state")
    list_filter = ("quota", "unit", "currency")
    search_fields = ("scope", "code", "name")
    ordering = ("scope", "fee_nanos")
    fields = (
        *("shown_pk", "shown_sku", "name", "scope", "fee", "currency", "unit", "included", "quota", "rate_per_minute"),
        *("subscribers", "state", "created_by", "created_at", "retired_at"),
    )
    readonly_fields = ("shown_pk", "shown_sku", "fee", "included", "subscribers", "state")
    actions_list = ("offer",)
    actions_detail = ("retire",)

    @display(description="SKU", ordering="scope")
    def shown_sku(self, row: Any) -> str:
        """The fee's."""
        return str(row.sku)

    @display(description="Monthly fee", ordering="fee_nanos")
    def fee(self, plan: Plan) -> str:
        """The fee."""
        return money(plan.fee_nanos, plan.currency)

    @display(description="Included")
    def included(self, plan: Plan) -> str:
        """The units of a month."""
        return "without limit" if plan.included_units is None else units_of(plan.included_units, plan.unit)

    @display(description="Subscribers")
    def subscribers(self, plan: Plan) -> int:
        """How many have it now."""
        return plan.subscriptions.exclude(state=Subscription.State.ENDED).count()

    @display(description="State", label={"offered": "success", "retired": "warning"})
    def state(self, plan: Plan) -> str:
        """Whether it can be subscribed to."""
        return "retired" if plan.retired_at else "offered"

    @action(description="Offer a plan of the whole catalogue", url_path="offer", permissions=["deed"], icon="add")
    def offer(self, request: HttpRequest) -> HttpResponse:
        """Make a plan that covers whatever the catalogue has."""
        form = bind(OperatorPlanForm, request)
        if request.method == "POST" and form.is_valid():
            assert isinstance(form, PlanForm)
            try:
                plan = offer_plan(None, facts=form.facts(), by=operator_of(request))
            except PlanInvalid as error:
                form.add_error(None, error.detail)
            else:
                messages.success(request, f"{plan.name} can be subscribed to now.")
                return HttpResponseRedirect(reverse("admin:billing_plan_change", args=[plan.pk]))
        context = {
            **self.admin_site.each_context(request),
            "title": "Offer a plan of the whole catalogue",
            "warning": f"It covers every model ({EVERYTHING}) that is sold by its unit. What it promises never changes.",
            "form": form,
            "back": reverse("admin:billing_plan_changelist"),
            "opts": self.opts,
        }
        return render(request, "admin/deed.html", context)

    @action(description="Retire", url_path="retire", permissions=["deed"], icon="inventory_2")
    def retire(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take nobody new."""
        plan: Plan = find_target(self, request, object_id)

        def do(fields: Any) -> None:  # noqa: ARG001 (asks for nothing)
            retire_plan(plan, by=operator_of(request))

        warning = "It takes nobody new; who subscribes to it keeps it. It cannot be brought back."
        return run_deed(self, request, title=f"Retire {plan.name}", warning=warning, form=bind(ConfirmForm, request), do=do, target=plan)


@admin.register(Subscription)
class SubscriptionAdmin(NamedColumns, FactAdmin):
    """All subscriptions, the newest first."""

    list_display = ("created_at", "account", "plan", "shown_state", "starts_at", "paid_until", "ends_at")
    list_filter = ("state", "reason")
    list_select_related = ("account", "plan")
    search_fields = ("account__name", "scope")
    ordering = ("-created_at",)
    fields = (
        *("shown_pk", "account", "plan", "shown_state", "reason", "starts_at", "first_ends_at", "first_included_units"),
        *("paid_until", "grace_until", "ends_at", "previous", "created_by", "created_at"),
    )
    readonly_fields = ("shown_pk", "shown_state")

    @display(description="State", ordering="state", label={"active": "success", "unpaid": "danger", "ended": "info"})
    def shown_state(self, row: Subscription) -> str:
        """How it stands."""
        return row.state
