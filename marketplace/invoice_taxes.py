"""The taxes within an invoice, as they are printed: stated by the site, or computed by Stripe Tax."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from django.utils.translation import gettext as _

from billing.models import Invoice, InvoiceTax
from billing.money import render_percent

_REVERSE_CHARGE: Final = "reverse_charge"


@dataclass(frozen=True, slots=True)
class SheetTax:
    """One tax."""

    name: str
    percent: str  # "19", "8.875".
    amount_cents: int
    reason: str = ""  # Stripe's, such as "reverse_charge"; empty where the site states the rate.

    @property
    def words(self) -> str:
        """What is printed before the amount."""
        if self.reason == _REVERSE_CHARGE:
            return _("%(name)s: reverse charge, the customer owes the tax") % {"name": self.name}
        if not Decimal(self.percent):
            return f"{self.name}, 0 %"
        return _("Includes %(name)s of %(rate)s %%") % {"name": self.name, "rate": self.percent}


def stated_taxes(*, name: str, basis_points: int, amount_cents: int, is_open: bool = False) -> list[SheetTax]:
    """Return the tax of a stated rate; a rate of 0 is printed once the month is closed."""
    if not basis_points and (is_open or not name):
        return []
    return [SheetTax(name, render_percent(basis_points), amount_cents)]


def taxes_of(invoice: Invoice) -> Sequence[SheetTax]:
    """Return the taxes within a closed invoice; none while Stripe has not answered."""
    found: InvoiceTax | None = getattr(invoice, "provider_tax", None)
    if found is None:
        return stated_taxes(name=invoice.tax_name, basis_points=invoice.tax_basis_points, amount_cents=invoice.tax_cents)
    return [SheetTax(line["name"], line["percent"], line["amount_cents"], line["reason"]) for line in found.lines]


def tax_status_of(invoice: Invoice) -> str:
    """Return how far the asking is: "waiting", "location" (of the customer, which is not known), "failed", or "known"."""
    found: InvoiceTax | None = getattr(invoice, "provider_tax", None)
    return str(found.status) if found is not None else str(InvoiceTax.Status.KNOWN)


def unknown_words(status: str) -> str:
    """Return what is printed in place of the taxes that are not known; nothing where they are."""
    if status == InvoiceTax.Status.KNOWN:
        return ""
    if status == InvoiceTax.Status.LOCATION:
        return _("The tax within the total cannot be stated until your address is known.")
    return _("The tax within the total is still to be computed.")
