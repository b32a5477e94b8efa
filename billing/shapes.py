"""A price's shape as plain data: read from JSON, checked, and written back. Knows no database."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from billing.errors import PriceInvalid
from billing.money import MAX_AMOUNT
from billing.pricing import SCHEMES, Shape, Tier

_FIELDS: Final = frozenset(
    {"scheme", "unit_nanos", "package_units", "tiers", "free_units", "trial_units", "minimum_nanos", "cached_unit_nanos"}
)
_TIER_FIELDS: Final = frozenset({"up_to", "unit_nanos", "flat_nanos"})
_MAX_TIERS: Final = 20
_MAX_UNITS: Final = 10**15  # A petabyte in bytes: more units than any month has.


def parse_shape(fields: Mapping[str, Any]) -> Shape:
    """Return the shape that JSON fields describe, checked; the fields are named as `Shape`'s, amounts in nanos.

    Raises:
        PriceInvalid: a field is unknown, missing or out of range, or the tiers make no sense.
    """
    if unknown := fields.keys() - _FIELDS:
        raise PriceInvalid(f"A price has no field {min(unknown)!r}.")  # noqa: EM102, TRY003 (the refusal's one sentence)
    rows = fields.get("tiers", ())
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) and row.keys() <= _TIER_FIELDS for row in rows):
        message = "Tiers are a list of objects of up_to, unit_nanos and flat_nanos."
        raise PriceInvalid(message)
    tiers = tuple(Tier(up_to=row.get("up_to"), unit_nanos=row.get("unit_nanos", 0), flat_nanos=row.get("flat_nanos", 0)) for row in rows)
    return check_shape(Shape(**{**fields, "tiers": tiers}))


def render_shape(shape: Shape) -> dict[str, Any]:
    """Return a shape as JSON fields, those left out that say nothing; `parse_shape` reads them back."""
    fields: dict[str, Any] = {"scheme": shape.scheme}
    plain = Shape()
    for name in ("unit_nanos", "package_units", "free_units", "trial_units", "minimum_nanos", "cached_unit_nanos"):
        if getattr(shape, name) != getattr(plain, name):
            fields[name] = getattr(shape, name)
    if shape.tiers:
        fields["tiers"] = [{"up_to": tier.up_to, "unit_nanos": tier.unit_nanos, "flat_nanos": tier.flat_nanos} for tier in shape.tiers]
    return fields


def check_shape(shape: Shape) -> Shape:
    """Return the shape if it makes a price.

    Raises:
        PriceInvalid: an amount or a count is out of range, or the tiers make no sense.
    """
    if shape.scheme not in SCHEMES:
        _refuse(f"The scheme {shape.scheme!r} is none of {', '.join(SCHEMES)}.")
    amounts = [shape.unit_nanos, shape.minimum_nanos, *(amount for tier in shape.tiers for amount in (tier.unit_nanos, tier.flat_nanos))]
    if shape.cached_unit_nanos is not None:
        amounts.append(shape.cached_unit_nanos)
    for amount in amounts:
        if type(amount) is not int or not 0 <= amount <= MAX_AMOUNT:
            _refuse(f"A price of {amount!r} nanos is out of range.")
    for name, least in (("package_units", 1), ("free_units", 0), ("trial_units", 0)):
        count = getattr(shape, name)
        if type(count) is not int or not least <= count <= _MAX_UNITS:
            _refuse(f"{name} must be a whole number from {least} to {_MAX_UNITS}.")
    if shape.scheme in {"graduated", "volume"}:
        _check_tiers(shape)
    elif shape.tiers:
        _refuse(f"A {shape.scheme} price has no tiers.")
    if shape.scheme != "package" and shape.package_units != 1:
        _refuse("Only a package price has package_units.")
    return shape


def _check_tiers(shape: Shape) -> None:
    if not 1 <= len(shape.tiers) <= _MAX_TIERS:
        _refuse(f"A {shape.scheme} price has 1 to {_MAX_TIERS} tiers.")
    if shape.unit_nanos:
        _refuse("The tiers say what a unit costs; unit_nanos must be 0.")
    if shape.tiers[-1].up_to is not None:
        _refuse("The last tier must be without end: its up_to is null.")
    before = 0
    for tier in shape.tiers[:-1]:
        if type(tier.up_to) is not int or not before < tier.up_to <= _MAX_UNITS:
            _refuse("Each tier must end, at a whole number above the one before.")
        assert tier.up_to is not None
        before = tier.up_to


def _refuse(message: str) -> None:
    raise PriceInvalid(message)
