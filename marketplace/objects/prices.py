"""Shapes of prices as objects."""

from rest_framework import serializers

from billing.pricing import SCHEMES
from marketplace.objects.fields import Amount, View


class TierView(View):
    """A range of a month's units, up to and including `up_to`."""

    up_to = serializers.IntegerField(allow_null=True, help_text="None: without end.")
    unit_price = Amount(source="unit_nanos")
    flat_price = Amount(source="flat_nanos", help_text="Once, when the month reaches the tier.")


class ShapeView(View):
    """How what units cost grows with their number."""

    scheme = serializers.ChoiceField(choices=SCHEMES)
    unit_price = Amount(source="unit_nanos", help_text="Of each unit, or of each package; 0 with tiers.")
    package_units = serializers.IntegerField(help_text="Units of a package; it is charged when it is begun.")
    tiers = TierView(many=True, help_text="In ascending order; empty for flat prices and packages.")
    cached_unit_price = Amount(
        source="cached_unit_nanos", allow_null=True, help_text="Of a unit answered from the cache; null: as any other."
    )
