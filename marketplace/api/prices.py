"""How the REST API shows a price: its shape in decimal strings, and a sentence for people."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from billing.models import Price
from billing.prices import shape_of_price, terms_of
from billing.pricing import SCHEMES, Shape, Tier
from marketplace.amounts import price_words
from marketplace.api.fields import Amount, Form, Moment, View, Whole
from marketplace.objects.prices import TierView


class TierForm(Form):
    """A range of units, up to and including `up_to`."""

    up_to = Whole(allow_null=True, help_text="null: without end; the last tier's.")
    unit_price = Amount(required=False, help_text="0 where it is left out.")
    flat_price = Amount(required=False, help_text="Once, when the month reaches the tier.")


class ShapeForm(Form):
    """A price of any shape that needs no month of its own: no free units, trial or minimum."""

    scheme = serializers.ChoiceField(choices=SCHEMES, default="flat")
    unit_price = Amount(required=False, help_text="Of each unit, or of each package; not with tiers.")
    package_units = Whole(required=False)
    tiers = TierForm(many=True, required=False)
    cached_unit_price = Amount(required=False, allow_null=True)


def shape_in(fields: Mapping[str, Any]) -> Shape:
    """Return the shape that a valid `ShapeForm` says; whether it makes a price is for `billing` to check."""
    tiers = [
        Tier(up_to=row["up_to"], unit_nanos=row.get("unit_price", 0), flat_nanos=row.get("flat_price", 0))
        for row in fields.get("tiers", ())
    ]
    return Shape(
        scheme=fields["scheme"],
        unit_nanos=fields.get("unit_price", 0),
        package_units=fields.get("package_units", 1),
        tiers=tuple(tiers),
        cached_unit_nanos=fields.get("cached_unit_price"),
    )


class PriceView(View):
    """What a unit costs from a moment on."""

    unit = serializers.ChoiceField(choices=Price.Unit.values)
    unit_price = Amount(source="unit_nanos", help_text="Of each unit, or of each package; with tiers, of the dearest unit.")
    currency = serializers.CharField()
    effective_from = Moment()
    scheme = serializers.SerializerMethodField()
    package_units = serializers.SerializerMethodField(help_text="Units of a package; it is charged when it is begun.")
    tiers = serializers.SerializerMethodField()
    free_units = serializers.SerializerMethodField(help_text="Free in each month.")
    trial_units = serializers.SerializerMethodField(help_text="Free once, the first that an organization uses.")
    minimum = serializers.SerializerMethodField(help_text="What a month costs at least, if anything is used in it.")
    cached_unit_price = serializers.SerializerMethodField(help_text="Of a unit answered from the cache; null: as any other.")
    words = serializers.SerializerMethodField(help_text="The price in one line of English.")

    def get_scheme(self, price: Price) -> str:
        """One of flat, graduated, volume, package."""
        return self._shape(price).scheme

    def get_package_units(self, price: Price) -> int:
        """1 for all but packages."""
        return self._shape(price).package_units

    def get_tiers(self, price: Price) -> list[dict[str, Any]]:
        """In ascending order; empty for flat prices and packages."""
        return list(TierView(self._shape(price).tiers, many=True).data)

    def get_free_units(self, price: Price) -> int:
        """0: none."""
        return self._shape(price).free_units

    def get_trial_units(self, price: Price) -> int:
        """0: none."""
        return self._shape(price).trial_units

    def get_minimum(self, price: Price) -> str:
        """As a decimal string."""
        return Amount().to_representation(self._shape(price).minimum_nanos)

    def get_cached_unit_price(self, price: Price) -> str | None:
        """As a decimal string."""
        nanos = self._shape(price).cached_unit_nanos
        return None if nanos is None else Amount().to_representation(nanos)

    def get_words(self, price: Price) -> str:
        """As the model's page says it."""
        return price_words(terms_of(price))

    @staticmethod
    def _shape(price: Price) -> Shape:
        return shape_of_price(price)
