"""The form of a price of any shape: for its provider's page and for the operator's."""

from collections.abc import Sequence
from typing import Any, Final

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.errors import AmountMalformed, PriceInvalid
from billing.money import parse_amount, to_decimal_string
from billing.pricing import Shape, Tier
from billing.shapes import check_shape

_END: Final = "*"  # What the last tier goes up to.


class PriceForm(forms.Form):
    """A price; once valid, `shape` is in the cleaned fields."""

    scheme = forms.ChoiceField(
        label=gettext_lazy("Kind of price"),
        choices=[
            ("flat", gettext_lazy("The same for each unit")),
            ("graduated", gettext_lazy("Graduated: each unit costs what its tier says")),
            ("volume", gettext_lazy("Volume: all units of a month cost what the tier reached says")),
            ("package", gettext_lazy("By the package of units")),
        ],
        initial="flat",
    )
    unit_price = forms.CharField(
        label=gettext_lazy("Price of a unit, or of a package"),
        max_length=20,
        required=False,
        help_text=gettext_lazy("In currency units, such as 0.0000002. Leave it empty with tiers."),
    )
    package_units = forms.IntegerField(label=gettext_lazy("Units in a package"), required=False, min_value=1)
    tiers = forms.CharField(
        label=gettext_lazy("Tiers"),
        max_length=2000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=gettext_lazy(
            "One a line: its last unit, the price of a unit, and a fee on reaching it if there is one. The last line starts with *."
        ),
    )
    free_units = forms.IntegerField(label=gettext_lazy("Free units in each month"), required=False, min_value=0)
    trial_units = forms.IntegerField(label=gettext_lazy("Free units once, to try it"), required=False, min_value=0)
    minimum = forms.CharField(label=gettext_lazy("Least that a month of use costs"), max_length=20, required=False)
    cached_unit_price = forms.CharField(
        label=gettext_lazy("Price of a unit answered from the cache"),
        max_length=20,
        required=False,
        help_text=gettext_lazy("Empty: the same as any other."),
    )

    def clean(self) -> dict[str, Any]:
        """Return the fields, with the shape that they make."""
        fields = super().clean() or self.cleaned_data
        if self.errors:
            return fields
        try:
            tiers = _parse_tiers(fields["tiers"])
            shape = Shape(
                scheme=fields["scheme"],
                unit_nanos=_amount(fields["unit_price"]) or 0,
                package_units=fields["package_units"] or 1,
                tiers=tiers,
                free_units=fields["free_units"] or 0,
                trial_units=fields["trial_units"] or 0,
                minimum_nanos=_amount(fields["minimum"]) or 0,
                cached_unit_nanos=_amount(fields["cached_unit_price"]),
            )
            if not fields["unit_price"] and not tiers:
                raise forms.ValidationError(_("Write the price of a unit, or tiers."))
            fields["shape"] = check_shape(shape)
        except PriceInvalid as error:
            raise forms.ValidationError(str(error)) from None
        return fields


def fields_of(shape: Shape) -> dict[str, Any]:
    """Return what the form shows of a price that there is."""
    return {
        "scheme": shape.scheme,
        "unit_price": "" if shape.tiers else _plain(shape.unit_nanos),
        "package_units": shape.package_units if shape.scheme == "package" else None,
        "tiers": "\n".join(map(_render_tier, shape.tiers)),
        "free_units": shape.free_units or None,
        "trial_units": shape.trial_units or None,
        "minimum": _plain(shape.minimum_nanos) if shape.minimum_nanos else "",
        "cached_unit_price": "" if shape.cached_unit_nanos is None else _plain(shape.cached_unit_nanos),
    }


def _parse_tiers(text: str) -> tuple[Tier, ...]:
    return tuple(_parse_tier(line.split()) for line in text.splitlines() if line.strip())


def _parse_tier(parts: Sequence[str]) -> Tier:
    end = parts[0].replace(",", "")
    if len(parts) not in {2, 3} or not (end == _END or (end.isascii() and end.isdecimal())):
        raise forms.ValidationError(_("A tier is its last unit or *, the price of a unit, and a fee if there is one: “1000 0.002 5”."))
    fee = _amount(parts[2]) if len(parts) == 3 else 0
    return Tier(up_to=None if end == _END else int(end), unit_nanos=_amount(parts[1]) or 0, flat_nanos=fee or 0)


def _render_tier(tier: Tier) -> str:
    fee = f" {_plain(tier.flat_nanos)}" if tier.flat_nanos else ""
    return f"{_END if tier.up_to is None else tier.up_to} {_plain(tier.unit_nanos)}{fee}"


def _plain(nanos: int) -> str:
    return to_decimal_string(nanos, places=0)


def _amount(text: str) -> int | None:
    if not text.strip():
        return None
    try:
        return parse_amount(text)
    except AmountMalformed:
        raise forms.ValidationError(_("Write an amount such as 0.0000002: a plain decimal of at most nine decimals.")) from None
