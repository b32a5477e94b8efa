"""`/v1/models/{owner}/{name}/plans`: what a provider offers of an own model by the month."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import models
from billing.ids import parse_public_id
from billing.models import Price
from marketplace import plans
from marketplace.api.authentication import key_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, read_body, read_query
from marketplace.api.fields import Amount, Form, Moment, PublicId, Text, Whole
from marketplace.api.lists import list_of, page_form, read_page, render_list
from marketplace.api.organization import check_live
from marketplace.api.plans import TAG
from marketplace.api.prices import ShapeForm, shape_in
from marketplace.api.versions import check_publisher, find_own_model
from marketplace.objects.plans import PlanView


class OwnPlanView(PlanView):
    """A plan as its provider sees it."""

    code = serializers.CharField(help_text="Its short name on bills.")
    subscribers = serializers.IntegerField(help_text="Organizations that have it now.")
    created_at = Moment()


class PlanForm(Form):
    """A plan to be offered."""

    name = Text(max_length=80)
    code = Text(max_length=20, help_text="Its short name on bills, once in a model: letters, digits, hyphens, underscores.")
    fee = Amount(help_text="Of a calendar month, in the site's currency.")
    unit = serializers.ChoiceField(
        choices=Price.Unit.values, help_text="The one that the model is sold by; what is sold by others is not covered."
    )
    included_units = Whole(allow_null=True, min_value=1, help_text="Of a whole month; null: without limit.")
    quota = serializers.ChoiceField(
        choices=models.Plan.Quota.values,
        help_text="hard: calls beyond it are refused. soft: they cost `overage_price`, or nothing without a limit.",
    )
    overage_price = ShapeForm(allow_null=True, default=None, help_text="Of units beyond a soft quota with a limit; null with any other.")
    rate_per_minute = Whole(allow_null=True, default=None, min_value=1, help_text="Calls a minute; null: as without a plan.")
    replaces = PublicId("plan", required=False, help_text="A plan of the same model that takes nobody new from now on.")


OwnPlansQuery = page_form("plan", "OwnPlansQuery")


class ModelPlans(Endpoint):
    """All plans of one of the caller's models."""

    scope = {"GET": "models:read", "POST": "models:write"}

    @operation(
        "list_model_plans",
        summary="List your model's plans",
        tag=TAG,
        query=OwnPlansQuery,
        answers=list_of(OwnPlanView, "OwnPlanList"),
        refusals=["request_malformed", "model_not_found"],
    )
    def get(self, request: Request, owner: str, name: str) -> Response:
        """List the plans of one of your models, the newest first, retired ones too."""
        check_live(request)
        rows = plans.list_model_plans(find_own_model(request, owner, name))
        page = read_page(rows, read_query(request, OwnPlansQuery).validated_data, by="created_at")
        return Response(render_list(page, request, OwnPlanView(page.rows, many=True).data))

    @operation(
        "offer_plan",
        summary="Offer a plan",
        tag=TAG,
        takes=PlanForm,
        answers=OwnPlanView,
        status=201,
        refusals=["request_malformed", "model_not_found", "not_found", "plan_invalid", "body_too_large"],
    )
    def post(self, request: Request, owner: str, name: str) -> Response:
        """Offer a plan of one of your models. What it promises never changes: to change it, offer another one that `replaces` it."""
        model = find_own_model(request, owner, name)
        check_publisher(request)
        fields: dict[str, Any] = read_body(request, PlanForm).validated_data
        overage = fields["overage_price"]
        facts = {
            "code": fields["code"],
            "name": fields["name"],
            "fee_nanos": fields["fee"],
            "unit": fields["unit"],
            "included_units": fields["included_units"],
            "quota": fields["quota"],
            "overage": None if overage is None else shape_in(overage),
            "rate_per_minute": fields["rate_per_minute"],
        }
        replaced = plans.get_model_plan(model, fields["replaces"]) if "replaces" in fields else None
        plan = plans.offer_plan(model, facts=facts, by=key_of(request), replaces=replaced)
        return Response(OwnPlanView(plans.get_model_plan(model, plan.pk)).data, status=201)


class ModelPlan(Endpoint):
    """One plan of one of the caller's models."""

    scope = {"GET": "models:read"}

    @operation("get_model_plan", summary="Show your plan", tag=TAG, answers=OwnPlanView, refusals=["model_not_found", "not_found"])
    def get(self, request: Request, owner: str, name: str, plan_id: str) -> Response:
        """Show a plan, and how many have it."""
        check_live(request)
        return Response(OwnPlanView(_find(request, owner, name, plan_id)).data)


class ModelPlanRetirement(Endpoint):
    """A plan's end."""

    scope = {"POST": "models:write"}

    @operation("retire_plan", summary="Retire a plan", tag=TAG, answers=OwnPlanView, refusals=["model_not_found", "not_found"])
    def post(self, request: Request, owner: str, name: str, plan_id: str) -> Response:
        """Take nobody new. Who has the plan keeps it. Repeating it changes nothing."""
        plan = _find(request, owner, name, plan_id)
        check_publisher(request)
        plans.retire_plan(plan, by=key_of(request))
        return Response(OwnPlanView(_find(request, owner, name, plan_id)).data)


def _find(request: Request, owner: str, name: str, plan_id: str) -> models.Plan:
    return plans.get_model_plan(find_own_model(request, owner, name), parse_public_id("plan", plan_id))
