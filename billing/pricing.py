"""What units cost. Pure: no clock, no database, no settings.

A price is flat today. The two questions are kept apart all the same, since with graduated
tiers they differ: at admission a call holds the most that it could cost, and at settlement
it pays exactly, given what the period had used before it.
"""

from dataclasses import dataclass
from uuid import UUID

from billing.money import Nanos


@dataclass(frozen=True, slots=True)
class Terms:
    """A price as a call keeps it from admission to settlement, whatever is set meanwhile."""

    price_id: UUID
    sku: str
    unit: str  # "call", "token" or "row".
    unit_nanos: int
    currency: str


def highest_charge(terms: Terms, units: int) -> Nanos:
    """Return the most that `units` can cost at these terms: what a call must hold."""
    return Nanos(terms.unit_nanos * units)


def charge(terms: Terms, units: int, *, already_used: int = 0) -> Nanos:  # noqa: ARG001 (flat prices do not look back)
    """Return the exact charge in nanos. Charging a, then b after it, equals charging a + b.

    Args:
        terms: The price that was frozen at admission.
        units: Units of this call, >= 0.
        already_used: Units of the period before this call.
    """
    return Nanos(terms.unit_nanos * units)
