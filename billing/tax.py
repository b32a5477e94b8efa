"""The tax within a bill: prices include it, so that what a call was said to cost is what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.db import transaction

from billing import ledger
from billing.models import Account, BillingDetails, Invoice
from billing.money import NANOS_PER_CENT
from billing.providers import collects_money

TAX: Final = "tax"  # The ledger account of tax that the site owes.
_WHOLE: Final = 10_000


@dataclass(frozen=True, slots=True)
class TaxRate:
    """A tax's name and its rate in hundredths of a percent; 0 where there is none."""

    name: str
    basis_points: int


def tax_within(gross_cents: int, basis_points: int) -> int:
    """Return the tax that an amount includes, in cents: the amount less its net, which is rounded half to even.

    Args:
        gross_cents: What is paid; negative for what is given back.
        basis_points: The rate on the net amount: 1900 is 19 %.
    """
    whole = _WHOLE + basis_points
    net, rest = divmod(abs(gross_cents) * _WHOLE, whole)
    net += 2 * rest > whole or (2 * rest == whole and net % 2 == 1)
    return (abs(gross_cents) - net) * (-1 if gross_cents < 0 else 1)


def rate_of(account: Account) -> TaxRate:
    """Return the rate that an account's next invoice states: its own, or the site's; none where the provider computes it."""
    if settings.STRIPE_TAX and collects_money():
        return TaxRate("", 0)
    details = BillingDetails.objects.filter(account=account).first()
    if details is not None and details.tax_basis_points is not None:
        return TaxRate(details.tax_name or settings.TAX_NAME, details.tax_basis_points)
    return TaxRate(settings.TAX_NAME if settings.TAX_RATE_BASIS_POINTS else "", settings.TAX_RATE_BASIS_POINTS)


def tax_of_part(invoice: Invoice, gross_cents: int, *, untaxed_cents: int = 0) -> int:
    """Return the tax within a part of a closed invoice, so that the tax of the whole is all of the invoice's.

    Args:
        invoice: The invoice.
        gross_cents: The part.
        untaxed_cents: What of it was given back before the provider computed the tax, of the rest alone.
    """
    part, whole = gross_cents - untaxed_cents, invoice.total_cents - untaxed_cents
    if invoice.tax_basis_points or not whole:
        return tax_within(gross_cents, invoice.tax_basis_points) if invoice.tax_cents else 0
    # Computed by the provider, perhaps of several taxes: the part's share, half to even.
    share, rest = divmod(invoice.tax_cents * part, whole)
    return share + (2 * rest > whole or (2 * rest == whole and share % 2 == 1))


def post_tax(account: Account, tax_cents: int, *, reference: str) -> None:
    """Move tax out of the revenue; negative tax goes back into it. In a transaction."""
    if tax_cents:
        amount = tax_cents * NANOS_PER_CENT
        revenue, tax = ledger.fund_name(ledger.REVENUE, account.currency), ledger.fund_name(TAX, account.currency)
        ledger.post(kind="tax", reference=f"tax:{reference}", by="system", amounts={revenue: -amount, tax: amount}, owner=account)


def seller_lines() -> list[str]:
    """Return who sells, as invoices print it."""
    address = [line.strip() for line in settings.INVOICE_SELLER_ADDRESS.split(";")]
    return [line for line in (settings.INVOICE_SELLER_NAME, *address, settings.INVOICE_SELLER_TAX_ID, settings.SITE_URL) if line]


def buyer_lines(account: Account, *, fallback: str = "") -> list[str]:
    """Return who buys, as invoices print it."""
    details = BillingDetails.objects.filter(account=account).first()
    if details is None:
        return [fallback or account.name]
    return [line for line in (details.name or fallback or account.name, *details.address.splitlines(), details.tax_id) if line.strip()]


@transaction.atomic
def set_details(account: Account, *, name: str, address: str, tax_id: str) -> BillingDetails:
    """Set what an account's next invoices print of it; closed ones keep what they say."""
    values = {"name": name.strip(), "address": address.strip(), "tax_id": tax_id.strip()}
    return BillingDetails.objects.update_or_create(account=account, defaults=values)[0]


@transaction.atomic
def set_tax(account: Account, *, basis_points: int | None, name: str) -> BillingDetails:
    """Give an account a rate of its own from its next invoice on; None gives it the site's.

    Raises:
        ValueError: the rate is not within 0 and 100 %. Nothing was changed.
    """
    if basis_points is not None and not 0 <= basis_points <= _WHOLE:
        message = "A tax rate lies within 0 and 100 %."
        raise ValueError(message)
    values: Sequence[tuple[str, object]] = (("tax_basis_points", basis_points), ("tax_name", name.strip()))
    return BillingDetails.objects.update_or_create(account=account, defaults=dict(values))[0]
