"""What collected invoices, credit notes and tax must come to in the ledger: for the check of the books."""

from collections.abc import Iterator
from typing import Any

from django.db.models import Sum

from billing.models import CreditGrant, CreditNote, Invoice, InvoiceRefund, LedgerEntry, PaymentRefund
from billing.money import NANOS_PER_CENT
from billing.sums import total_of
from billing.tax import TAX


def collected_cents() -> int:
    """Return what invoices brought in by the provider, less what was given back to cards and did not come back."""
    paid = total_of(Invoice.objects.filter(status=Invoice.Status.PAID), "paid_cents")
    given = total_of(CreditNote.objects.filter(settlement=CreditNote.Settlement.CARD), "total_cents")
    failed = total_of(InvoiceRefund.objects.filter(status=PaymentRefund.Status.FAILED), "amount_cents")
    return paid - given - total_of(InvoiceRefund.objects.all(), "owed_cents") + failed


def invoice_sums() -> Iterator[tuple[str, dict[Any, int], dict[Any, int]]]:
    """Yield what is compared: its name, what the ledger says, and what its facts sum up to."""
    granted = CreditGrant.objects.filter(kind=CreditGrant.Kind.INVOICE).values_list("reference", "amount_nanos")
    paid = Invoice.objects.filter(status=Invoice.Status.PAID, paid_cents__gt=0).values_list("pk", "paid_cents")
    yield (
        "paid invoice",
        {reference.removeprefix("invoice:"): amount for reference, amount in granted},
        {str(pk): cents * NANOS_PER_CENT for pk, cents in paid},
    )
    noted = CreditGrant.objects.filter(kind=CreditGrant.Kind.NOTE).values_list("reference", "amount_nanos")
    notes = CreditNote.objects.values_list("pk", "total_cents")
    yield (
        "credit note",
        {reference.removeprefix("credit_note:"): amount for reference, amount in noted},
        {str(pk): cents * NANOS_PER_CENT for pk, cents in notes},
    )
    held = (
        LedgerEntry.objects.filter(ledger_account__name__startswith=TAX)
        .values_list("ledger_account__currency")
        .annotate(total=Sum("amount_nanos"))
    )
    owed: dict[Any, int] = {}
    for currency, cents in Invoice.objects.values_list("currency").annotate(total=Sum("tax_cents")).order_by():
        owed[currency] = owed.get(currency, 0) + int(cents or 0) * NANOS_PER_CENT
    for currency, cents in CreditNote.objects.values_list("invoice__currency").annotate(total=Sum("tax_cents")).order_by():
        owed[currency] = owed.get(currency, 0) - int(cents or 0) * NANOS_PER_CENT
    yield "tax", {currency: int(total or 0) for currency, total in held}, owed
