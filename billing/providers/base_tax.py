"""What billing needs of whoever computes taxes. Amounts are whole cents, tax included."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxOrder:
    """What is to be taxed: a closed invoice's total."""

    customer: str
    reference: str  # The invoice's number.
    amount_cents: int
    currency: str
    taxed_at: datetime | None  # Whose day's rates hold; None: today's.


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxLine:
    """One tax of it, or why there is none."""

    name: str  # "VAT (DE)".
    percent: str  # "19", "8.875".
    amount_cents: int
    taxable_cents: int
    reason: str  # Stripe's: "standard_rated", "reverse_charge", "not_collecting", ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxState:
    """What the taxes come to."""

    id: str
    total_cents: int
    tax_cents: int  # Of the total, within it.
    lines: Sequence[TaxLine]


class TaxProvider(Protocol):
    """Computes taxes. As for every method of `Provider`: one call over the network, and never inside a transaction."""

    def calculate_tax(self, order: TaxOrder, *, key: str) -> TaxState:
        """Return the taxes that an amount includes, where the customer lives. Nothing is owed by that.

        Raises:
            ProviderRefused: with the reason "customer_tax_location_invalid" where it does not know where that is.
        """
        ...

    def record_tax(self, calculation: str, *, reference: str, key: str) -> str:
        """Have what was calculated be owed; return the record's id, or nothing where the reference was recorded before."""
        ...

    def reverse_tax(self, record: str, *, reference: str, amount_cents: int, key: str) -> str:
        """Take a part of an amount back, with its tax; return as `record_tax`."""
        ...
