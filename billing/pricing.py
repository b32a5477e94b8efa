"""What units cost. Pure: no clock, no database, no settings.

A price has a *shape*: how the sum for a month grows with the units used in it. `total(shape, n)` is
that sum for n units; a call that comes after `used` units costs `total(used + units) - total(used)`.
So the same month comes to the same money however it is split into calls, for every shape. Sums
never fall, or a call would cost less than nothing: with volume tiers, whose published sum does fall
where a tier begins, calls are free until the sum has caught up, and the month's close gives back
what is still too much (`rebate`).

Source: Stripe Billing, "Tiered pricing" (graduated, volume) and "Package pricing".
"""

from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from billing.money import Nanos

Scheme = Literal["flat", "graduated", "volume", "package"]
SCHEMES: Final[tuple[Scheme, ...]] = ("flat", "graduated", "volume", "package")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A range of a month's units, from where the tier before ends up to and including `up_to`."""

    up_to: int | None  # None: without end. Only the last tier's.
    unit_nanos: int = 0
    flat_nanos: int = 0  # Once, when the month reaches the tier.


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a month's sum grows with its units."""

    scheme: Scheme = "flat"
    unit_nanos: int = 0  # Flat: of each unit. Package: of each package, begun or full.
    package_units: int = 1
    tiers: tuple[Tier, ...] = ()  # Graduated: each unit at its own tier's rate. Volume: all at the rate of the last one reached.
    free_units: int = 0  # Of each month, before anything else counts: the free tier.
    trial_units: int = 0  # The first that an account ever uses; they count towards no month.
    minimum_nanos: int = 0  # What a month costs at least, if anything is used in it: the commitment.
    cached_unit_nanos: int | None = None  # Of a unit answered from the cache. None: as any other.

    @property
    def is_plain(self) -> bool:
        """Whether a call's charge depends on the call alone, and not on what the month used before."""
        return self.scheme == "flat" and not (self.free_units or self.trial_units or self.minimum_nanos)


@dataclass(frozen=True, slots=True)
class Terms:
    """A price as a call keeps it from admission to settlement, whatever is set meanwhile."""

    price_id: UUID
    sku: str
    unit: str  # "call", "token", "row" or "byte".
    unit_nanos: int  # Of a plain price, each unit's; of others, the dearest one's.
    currency: str
    shape: Shape | None = None  # None: plain, at `unit_nanos`.
    meter: str = ""  # What is counted together for tiers; empty: the SKU.

    @property
    def counted_as(self) -> str:
        """The meter that the month's units are counted by."""
        return self.meter or self.sku

    @property
    def is_plain(self) -> bool:
        """Whether a call's charge is known before it settles."""
        return self.shape is None or self.shape.is_plain


def shape_of(terms: Terms) -> Shape:
    """Return the shape of a price, a plain one's too."""
    return terms.shape or Shape(unit_nanos=terms.unit_nanos)


def total(shape: Shape, units: int) -> Nanos:
    """Return what a month's first `units` units come to while the month lasts. Never falls as units grow."""
    if units <= 0:
        return Nanos(0)
    return Nanos(max(shape.minimum_nanos, _running(shape, max(0, units - shape.free_units))))


def charge(terms: Terms, units: int, *, already_used: int = 0, is_cached: bool = False) -> Nanos:
    """Return the exact charge in nanos. Charging a, then b after it, equals charging a + b.

    Args:
        terms: The price that was frozen at admission.
        units: Units of this call, >= 0, trial units left out.
        already_used: Units of the month before this call.
        is_cached: It was answered from the cache; such units count towards no tier.
    """
    shape = terms.shape
    if shape is None:
        return Nanos(terms.unit_nanos * units)
    if is_cached and shape.cached_unit_nanos is not None:
        return Nanos(shape.cached_unit_nanos * units)
    if shape.is_plain:
        return Nanos(shape.unit_nanos * units)
    return Nanos(total(shape, already_used + units) - total(shape, already_used))


def highest_charge(terms: Terms, units: int, *, at_least_used: int = 0) -> Nanos:
    """Return the most that `units` can cost at these terms: what a call must hold.

    Args:
        terms: The price that was frozen at admission.
        units: Units of the call.
        at_least_used: Units that the month is known to have used; it may have used more by the time
            that the call settles. The more is known, the less an account with a fee paid must hold.
    """
    shape = terms.shape
    if shape is None or shape.is_plain:
        return charge(terms, units)
    # The sum is a line between a few corners, so the dearest place for the call begins or ends at one.
    corners = [corner + shape.free_units for corner in _corners(shape)]
    places = {at_least_used, shape.free_units}
    places.update(place for corner in corners for place in (corner, corner - units))
    if shape.scheme == "package":  # It jumps for ever: the dearest place is where a package is used up, past all else.
        past = max(at_least_used, *corners) - shape.free_units
        places.add(shape.free_units - (-past // shape.package_units) * shape.package_units)
    return Nanos(max(charge(terms, units, already_used=max(at_least_used, place)) for place in places))


def trial_part(shape: Shape, units: int, *, ever_used: int) -> int:
    """Return how many of a call's units are of the free trial, given all units that the account used before."""
    return min(units, max(0, shape.trial_units - ever_used))


def rebate(shape: Shape, *, units: int, charged_nanos: int, month_units: int) -> Nanos:
    """Return what a volume price's month was charged too much, to be given back at its close.

    Args:
        shape: The price's.
        units: Units charged at this price.
        charged_nanos: What they were charged.
        month_units: All units of the month on its meter, which decide the tier.
    """
    if shape.scheme != "volume" or units <= 0:
        return Nanos(0)
    tier = _tier_at(shape.tiers, max(1, month_units - shape.free_units))
    published = max(shape.minimum_nanos, max(0, units - shape.free_units) * tier.unit_nanos + tier.flat_nanos)
    return Nanos(max(0, charged_nanos - published))


def dearest_unit(shape: Shape) -> int:
    """Return the highest price of one unit, in nanos, without flat amounts: for lists and comparisons."""
    if shape.tiers:
        return max(tier.unit_nanos for tier in shape.tiers)
    return shape.unit_nanos


def is_never_dearer(new: Shape, old: Shape) -> bool:
    """Whether no month could come to more at `new` than at `old`. Decided at the corners of both sums."""
    if new.trial_units < old.trial_units or _cached(new) > _cached(old) or _last_rate(new) > _last_rate(old):
        return False
    places = {1}
    for shape in (new, old):
        for corner in (0, *_corners(shape)):
            places.update({corner + shape.free_units, corner + shape.free_units + 1})
    if "package" in {new.scheme, old.scheme} and (new.scheme, new.package_units) != (old.scheme, old.package_units):
        return False  # Steps of different lengths: nobody could read the comparison.
    far = max(places) * 2 + 1
    return all(total(new, place) <= total(old, place) for place in (*places, far))


def _cached(shape: Shape) -> int:
    return dearest_unit(shape) if shape.cached_unit_nanos is None else shape.cached_unit_nanos


def _last_rate(shape: Shape) -> int:
    return shape.tiers[-1].unit_nanos if shape.tiers else shape.unit_nanos


def _running(shape: Shape, units: int) -> int:
    """Return the sum for units beyond the free ones, never falling."""
    if units == 0:
        return 0
    if shape.scheme == "flat":
        return units * shape.unit_nanos
    if shape.scheme == "package":
        return -(-units // shape.package_units) * shape.unit_nanos
    if shape.scheme == "graduated":
        return _graduated(shape.tiers, units)
    # Volume: the most that the published sum came to on the way.
    sums = [_volume(shape.tiers, tier.up_to) for tier in shape.tiers if tier.up_to is not None and tier.up_to < units]
    return max([*sums, _volume(shape.tiers, units)])


def _graduated(tiers: tuple[Tier, ...], units: int) -> int:
    charged, start = 0, 0
    for tier in tiers:
        if units <= start:
            break
        end = units if tier.up_to is None else min(units, tier.up_to)
        charged += (end - start) * tier.unit_nanos + tier.flat_nanos
        start = end
    return charged


def _volume(tiers: tuple[Tier, ...], units: int) -> int:
    tier = _tier_at(tiers, units)
    return units * tier.unit_nanos + tier.flat_nanos


def _tier_at(tiers: tuple[Tier, ...], units: int) -> Tier:
    return next(tier for tier in tiers if tier.up_to is None or units <= tier.up_to)


def _corners(shape: Shape) -> list[int]:
    """Return the units, free ones left out, at which the sum jumps or changes its slope; each side of a jump."""
    corners = [0, 1]
    if shape.scheme == "package":
        corners += [shape.package_units]
    for tier in shape.tiers:
        if tier.up_to is not None:
            corners += [tier.up_to - 1, tier.up_to, tier.up_to + 1]
    if shape.scheme == "volume":
        corners += _catches_up(shape)
    if shape.minimum_nanos:
        corners += _reaches_minimum(shape, max(corners))
    return corners


def _catches_up(shape: Shape) -> list[int]:
    """Return where each tier's sum reaches what calls had come to before it, and is charged again."""
    found = []
    for before, tier in zip(shape.tiers, shape.tiers[1:], strict=False):
        assert before.up_to is not None
        paid = _running(shape, before.up_to)
        if tier.unit_nanos:
            place = (paid - tier.flat_nanos) // tier.unit_nanos
            found += [place, place + 1]
    return [place for place in found if place > 0]


def _reaches_minimum(shape: Shape, beyond: int) -> list[int]:
    """Return the last place at which the sum is within the minimum, and the next, by bisection."""
    low, high = 0, beyond + 1
    while _running(shape, high) <= shape.minimum_nanos:
        low, high = high, high * 2
        if high > 1 << 62:  # It never does: nothing beyond the minimum is charged.
            return []
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _running(shape, middle) <= shape.minimum_nanos else (low, middle)
    return [low, high, high + 1]
