"""`/v1/plans` and `/v1/subscriptions`: a month's units for a fee; what it comes to, and who has it."""

from typing import Any
from uuid import UUID

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.ids import parse_public_id
from marketplace import plans
from marketplace.api.authentication import key_of, tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, read_body, read_query
from marketplace.api.fields import Amount, Constant, Form, Moment, PublicId, View
from marketplace.api.lists import list_of, page_form, read_page, render_list
from marketplace.api.organization import check_live
from marketplace.objects.plans import PlanView, SubscriptionView

TAG = "Plans"
_REFUSED = ["not_found", "plan_not_offered", "already_subscribed"]


class QuoteView(View):
    """What it comes to, to begin a plan now."""

    object = Constant("plan_quote")
    plan = PublicId("plan", source="plan.pk")
    replaces = PublicId("sub", source="previous.pk", allow_null=True, default=None, help_text="The subscription that ends.")
    as_of = Moment(help_text="Send it back within 15 minutes to be charged exactly this.")
    charge = Amount(source="charge_nanos", help_text="The fee's part for the rest of the month.")
    credit = Amount(source="credit_nanos", help_text="The unused part of the fee before, which is given back.")
    due = Amount(source="due_nanos", help_text="What leaves the balance; below 0, what comes back.")
    included_units = serializers.IntegerField(allow_null=True, help_text="The part for the rest of the month.")
    next_fee = Amount(source="plan.fee_nanos")
    next_fee_at = Moment(source="month_ends_at")
    currency = serializers.CharField(source="plan.currency")


class SubscriptionForm(Form):
    """A plan to begin, or to change to."""

    plan = PublicId("plan")
    as_of = Moment(required=False, help_text="The quote's: the plan begins then, and comes to what the quote said.")
    most_due = Amount(required=False, help_text="What the quote said: where it comes to more by now, nothing is done.")


SubscriptionsQuery = page_form("sub", "SubscriptionsQuery")


class Plans(Endpoint):
    """What can be subscribed to."""

    scope = {"GET": "billing:read"}

    @operation("list_plans", summary="List plans", tag=TAG, answers=list_of(PlanView, "PlanList"))
    def get(self, request: Request) -> Response:
        """List the plans that the organization can subscribe to, those of the whole catalogue before those of single models."""
        check_live(request)
        rows = PlanView(plans.visible_plans(tenant_of(request)), many=True).data
        return Response({"object": "list", "data": rows, "has_more": False, "url": request.path})


class Plan(Endpoint):
    """One plan."""

    scope = {"GET": "billing:read"}

    @operation("get_plan", summary="Show a plan", tag=TAG, answers=PlanView, refusals=["not_found"])
    def get(self, request: Request, plan_id: str) -> Response:
        """Show a plan, a retired one too."""
        check_live(request)
        return Response(PlanView(plans.get_plan(tenant_of(request), parse_public_id("plan", plan_id))).data)


class PlanQuote(Endpoint):
    """What a plan comes to now."""

    scope = {"GET": "billing:read"}

    @operation("quote_plan", summary="Preview a subscription or a change", tag=TAG, answers=QuoteView, refusals=_REFUSED)
    def get(self, request: Request, plan_id: str) -> Response:
        """Tell what it comes to, to begin the plan now, or to change to it. Nothing is charged or changed."""
        check_live(request)
        organization = tenant_of(request)
        plan = plans.get_plan(organization, parse_public_id("plan", plan_id))
        return Response(QuoteView(plans.quote(organization, plan)).data)


class Subscriptions(Endpoint):
    """The organization's subscriptions."""

    scope = {"GET": "billing:read", "POST": "billing:write"}

    @operation(
        "list_subscriptions",
        summary="List subscriptions",
        tag=TAG,
        query=SubscriptionsQuery,
        answers=list_of(SubscriptionView, "SubscriptionList"),
        refusals=["request_malformed"],
    )
    def get(self, request: Request) -> Response:
        """List subscriptions, the newest first, ended ones too."""
        check_live(request)
        query = read_query(request, SubscriptionsQuery).validated_data
        rows = tenant_of(request).account.subscriptions.select_related("plan__usage_price", "first_price")
        page = read_page(rows, query, by="created_at")
        return Response(render_list(page, request, SubscriptionView(page.rows, many=True).data))

    @operation(
        "create_subscription",
        summary="Subscribe, or change the plan",
        tag=TAG,
        takes=SubscriptionForm,
        answers=SubscriptionView,
        status=201,
        refusals=["request_malformed", *_REFUSED, "quote_outdated", "fee_unpaid", "account_under_review", "body_too_large"],
    )
    def post(self, request: Request) -> Response:
        """Begin a plan now, and pay the rest of the month. A plan of the same scope ends, and its unused part is given back."""
        check_live(request)
        organization = tenant_of(request)
        fields: dict[str, Any] = read_body(request, SubscriptionForm).validated_data
        plan = plans.get_plan(organization, fields["plan"])
        row = plans.subscribe(organization, plan, by=key_of(request), as_of=fields.get("as_of"), most_nanos=fields.get("most_due"))
        return Response(_show(request, row.pk), status=201)


class Subscription(Endpoint):
    """One subscription."""

    scope = {"GET": "billing:read", "DELETE": "billing:write"}

    @operation("get_subscription", summary="Show a subscription", tag=TAG, answers=SubscriptionView, refusals=["not_found"])
    def get(self, request: Request, subscription_id: str) -> Response:
        """Show a subscription, and where its quota stands."""
        check_live(request)
        return Response(_show(request, parse_public_id("sub", subscription_id)))

    @operation(
        "cancel_subscription",
        summary="Cancel a subscription",
        tag=TAG,
        answers=SubscriptionView,
        refusals=["not_found", "subscription_ended"],
    )
    def delete(self, request: Request, subscription_id: str) -> Response:
        """Let it end when the month that is paid ends. Repeating it changes nothing."""
        check_live(request)
        organization = tenant_of(request)
        row = plans.get_subscription(organization, parse_public_id("sub", subscription_id))
        plans.cancel(organization, row, by=key_of(request))
        return Response(_show(request, row.pk))


class SubscriptionResumption(Endpoint):
    """A cancellation taken back."""

    scope = {"POST": "billing:write"}

    @operation(
        "resume_subscription",
        summary="Take a cancellation back",
        tag=TAG,
        answers=SubscriptionView,
        refusals=["not_found", "subscription_ended"],
    )
    def post(self, request: Request, subscription_id: str) -> Response:
        """Let a cancelled subscription go on, while it still does."""
        check_live(request)
        organization = tenant_of(request)
        row = plans.get_subscription(organization, parse_public_id("sub", subscription_id))
        plans.resume(organization, row, by=key_of(request))
        return Response(_show(request, row.pk))


def _show(request: Request, subscription_id: UUID | None) -> Any:
    return SubscriptionView(plans.get_subscription(tenant_of(request), subscription_id)).data
