"""Plans: what is offered, what it comes to before it is confirmed, and where quotas stand."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing.errors import AlreadySubscribed, BillingError, FeeUnpaid, PlanInvalid, PlanNotOffered, QuoteOutdated, SubscriptionEnded
from billing.ids import parse_public_id, public_id
from billing.models import EVERYTHING, Plan, Subscription
from billing.plans import overage_terms
from billing.pricing import Terms
from billing.subscriptions import Used, used_now
from marketplace import plans
from marketplace.amounts import money
from marketplace.errors import AccountUnderReview, NotFound
from marketplace.models import CatalogueModel, Organization
from marketplace.plan_forms import PlanForm
from marketplace.problems import problem_of
from marketplace.web.access import MemberRequest, member_required


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan as a table's line shows it."""

    plan: Plan
    id: str
    beyond: Terms | None  # The overage's price; None: refused, or nothing is beyond.
    is_current: bool
    is_change: bool  # The organization has another one of its scope.

    @property
    def covers(self) -> str:
        """The model's path; empty for the whole catalogue."""
        return "" if self.plan.scope == EVERYTHING else self.plan.scope


@dataclass(frozen=True, slots=True)
class Held:
    """A subscription with its quota's bar."""

    row: Subscription
    id: str
    used: Used
    beyond: Terms | None

    @property
    def percent(self) -> int | None:
        """How full the quota is, at most 100; None: it has no limit."""
        return None if not self.used.included else min(100, self.used.units * 100 // self.used.included)

    @property
    def covers(self) -> str:
        """The model's path; empty for the whole catalogue."""
        return "" if self.row.scope == EVERYTHING else self.row.scope


def offers_of_model(model: CatalogueModel, organization: Organization | None) -> list[Offer]:
    """Return a model's plans, and those of the whole catalogue, as its page compares them."""
    return _offers(plans.plans_of_model(model, organization), organization)


def held_by(organization: Organization) -> list[Held]:
    """Return an organization's plans that go on, with their quotas."""
    rows = organization.account.subscriptions.exclude(state=Subscription.State.ENDED).select_related("plan__usage_price", "first_price")
    return [Held(row, public_id("sub", row.pk), used_now(row), overage_terms(row.plan)) for row in rows.order_by("scope")]


def _offers(rows: Iterable[Plan], organization: Organization | None) -> list[Offer]:
    current: dict[str, Any] = {}
    if organization is not None:
        live = organization.account.subscriptions.exclude(state=Subscription.State.ENDED)
        current = dict(live.values_list("scope", "plan_id"))
    return [
        Offer(plan, public_id("plan", plan.pk), overage_terms(plan), current.get(plan.scope) == plan.pk, plan.scope in current)
        for plan in rows
    ]


@require_safe
@member_required
def list_plans(request: MemberRequest) -> HttpResponse:
    """Show the organization's plans with their quotas, and all that it could have."""
    ended = request.organization.account.subscriptions.filter(state=Subscription.State.ENDED).select_related("plan")
    context = {
        "held": held_by(request.organization),
        "offers": _offers(plans.visible_plans(request.organization), request.organization),
        "ended": ended.order_by("-ends_at")[:10],
        "grace_hours": settings.PLAN_GRACE_HOURS,
    }
    return render(request, "plans/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@member_required
def confirm_plan(request: MemberRequest, plan_id: str) -> HttpResponse:
    """Show what a plan comes to now; once that is confirmed, begin it."""
    try:
        plan = plans.get_plan(request.organization, parse_public_id("plan", plan_id))
    except NotFound:
        raise Http404 from None
    refusal = ""
    if request.method == "POST":
        try:
            plans.subscribe(request.organization, plan, by=request.user, **_shown(request))
        except AccountUnderReview as error:
            refusal = str(problem_of(error).happened)
        except BillingError as error:
            refusal = _say(error)
        else:
            messages.success(request, _("%(plan)s begins now; calls know within a second.") % {"plan": plan.name})
            return redirect("plans")
    try:
        quote = plans.quote(request.organization, plan)
    except (PlanNotOffered, AlreadySubscribed) as error:
        messages.error(request, _say(error))
        return redirect("plans")
    context = {
        "quote": quote,
        "plan": plan,
        "beyond": overage_terms(plan),
        "as_of": quote.as_of.isoformat(),
        "refusal": refusal,
        "is_back": quote.due_nanos < 0,
    }
    context["back_nanos"] = -quote.due_nanos
    return render(request, "plans/confirm.html", context, status=409 if refusal else 200)


def _shown(request: HttpRequest) -> dict[str, Any]:
    """Return what the page showed: how much in nanos, and as of when.

    Raises:
        Http404: somebody changed the form.
    """
    text, moment = request.POST.get("due", ""), None
    with suppress(ValueError):  # Of the right form, but no date.
        moment = parse_datetime(request.POST.get("as_of", "")[:40])
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18) or moment is None or moment.tzinfo is None:
        raise Http404
    return {"most_nanos": int(text), "as_of": moment}


@require_http_methods(["GET", "HEAD", "POST"])
@member_required
def cancel_plan(request: MemberRequest, subscription_id: str) -> HttpResponse:
    """Ask once, then let a subscription end with the month that is paid."""
    row = _get_subscription(request, subscription_id)
    if request.method == "POST":
        try:
            row = plans.cancel(request.organization, row, by=request.user)
        except SubscriptionEnded as error:
            messages.error(request, _say(error))
        else:
            messages.success(request, _("%(plan)s ends with what is paid. Until then it goes on.") % {"plan": row.plan.name})
        return redirect("plans")
    return render(request, "plans/cancel.html", {"row": row})


@require_POST
@member_required
def resume_plan(request: MemberRequest, subscription_id: str) -> HttpResponse:
    """Take a cancellation back."""
    row = _get_subscription(request, subscription_id)
    try:
        plans.resume(request.organization, row, by=request.user)
    except SubscriptionEnded as error:
        messages.error(request, _say(error))
    else:
        messages.success(request, _("%(plan)s goes on.") % {"plan": row.plan.name})
    return redirect("plans")


def _get_subscription(request: MemberRequest, subscription_id: str) -> Subscription:
    try:
        return plans.get_subscription(request.organization, parse_public_id("sub", subscription_id))
    except NotFound:
        raise Http404 from None


# ---------------------------------------------------------------- The provider


@require_http_methods(["GET", "HEAD", "POST"])
@member_required
def offer_plans(request: MemberRequest, name: str) -> HttpResponse:
    """Show the plans of one of the organization's models, and make another."""
    model = _own_model(request, name)
    rows = plans.list_model_plans(model).order_by("retired_at", "fee_nanos")
    form = PlanForm(request.POST or None, offered=rows.filter(retired_at__isnull=True))
    if request.method == "POST" and form.is_valid():
        try:
            plan = plans.offer_plan(model, facts=form.facts(), by=request.user, replaces=form.replaced)
        except PlanInvalid as error:
            form.add_error(None, error.detail)
        else:
            messages.success(request, _("%(plan)s can be subscribed to now.") % {"plan": plan.name})
            return redirect("publish_plans", name=model.name)
    offers = [(offer, offer.plan.subscribers) for offer in _offers(rows, None)]  # type: ignore[attr-defined]  # Annotated.
    context = {"model": model, "form": form, "offers": offers}
    return render(request, "publish/plans.html", context, status=422 if form.errors else 200)


@require_POST
@member_required
def retire_plan(request: MemberRequest, name: str, plan_id: str) -> HttpResponse:
    """Take nobody new."""
    model = _own_model(request, name)
    try:
        plan = plans.get_model_plan(model, parse_public_id("plan", plan_id))
    except NotFound:
        raise Http404 from None
    plans.retire_plan(plan, by=request.user)
    messages.success(request, _("%(plan)s takes nobody new. Who has it keeps it.") % {"plan": plan.name})
    return redirect("publish_plans", name=model.name)


def _own_model(request: MemberRequest, name: str) -> CatalogueModel:
    model = request.organization.models.select_related("owner").filter(name=name).first()
    if model is None:
        raise Http404
    return model


def _say(error: BillingError) -> str:
    if isinstance(error, FeeUnpaid):
        facts = {"fee": money(error.fee_nanos), "left": money(error.left_nanos)}
        return _("The fee is %(fee)s, and the balance has %(left)s left. Top up first.") % facts
    if isinstance(error, QuoteOutdated):
        return _("It comes to more by now than what was shown. Nothing was charged; look again and confirm.")
    if isinstance(error, AlreadySubscribed):
        return _("You have this plan already.")
    if isinstance(error, SubscriptionEnded):
        return _("It has ended already.")
    return _("This plan takes nobody new.")
