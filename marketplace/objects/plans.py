"""Plans and subscriptions as objects."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing import models
from billing.models import EVERYTHING, Price
from billing.plans import overage_terms
from billing.pricing import shape_of
from billing.subscriptions import used_now
from marketplace.amounts import price_words
from marketplace.objects.fields import Amount, Constant, Moment, PublicId, View
from marketplace.objects.prices import ShapeView


class PlanView(View):
    """A month's units for a fee. It never changes; a retired one takes nobody new."""

    object = Constant("plan")
    id = PublicId("plan")
    sku = serializers.CharField(help_text="The fee, as bills name it.")
    name = serializers.CharField()
    model = serializers.SerializerMethodField(help_text="owner/name; null: whatever the catalogue has.")
    fee = Amount(source="fee_nanos", help_text="Of a calendar month, UTC.")
    currency = serializers.CharField()
    unit = serializers.ChoiceField(choices=Price.Unit.values)
    included_units = serializers.IntegerField(allow_null=True, help_text="Null: without limit.")
    quota = serializers.ChoiceField(choices=["hard", "soft"], help_text="hard: calls beyond it are refused. soft: they cost the overage.")
    overage = serializers.SerializerMethodField(help_text="The price beyond the included units in one line of English; null: none.")
    overage_price = serializers.SerializerMethodField(help_text="The same as a shape; null: none.")
    rate_per_minute = serializers.IntegerField(allow_null=True)
    retired_at = Moment(allow_null=True)

    def get_model(self, plan: models.Plan) -> str | None:
        """The scope, unless it is everything."""
        return None if plan.scope == EVERYTHING else plan.scope

    def get_overage(self, plan: models.Plan) -> str | None:
        """As people read it."""
        terms = overage_terms(plan)
        return price_words(terms) if terms else None

    @extend_schema_field(ShapeView(allow_null=True))
    def get_overage_price(self, plan: models.Plan) -> Any:
        """As programs read it."""
        terms = overage_terms(plan)
        return ShapeView(shape_of(terms)).data if terms else None


class QuotaView(View):
    """Where a subscription's quota stands this month."""

    used_units = serializers.IntegerField(source="units")
    included_units = serializers.IntegerField(source="included", allow_null=True)
    resets_at = Moment()


class SubscriptionView(View):
    """An organization's time on a plan."""

    object = Constant("subscription")
    id = PublicId("sub")
    plan = PlanView()
    state = serializers.ChoiceField(
        choices=models.Subscription.State.choices, help_text="unpaid: it goes on until grace_until, while the fee is asked for again."
    )
    starts_at = Moment()
    paid_until = Moment()
    grace_until = Moment(allow_null=True)
    ends_at = Moment(allow_null=True, help_text="Where it is cancelled or over.")
    reason = serializers.CharField(help_text="Why it ends: cancelled, changed or lapsed; else empty.")
    previous = PublicId("sub", source="previous_id", allow_null=True)
    this_month = serializers.SerializerMethodField(help_text="Null once it is over.")

    @extend_schema_field(QuotaView(allow_null=True))
    def get_this_month(self, row: models.Subscription) -> Any:
        """The quota now."""
        return None if row.state == models.Subscription.State.ENDED else QuotaView(used_now(row)).data
