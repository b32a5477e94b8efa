"""Taxes by the provider (Stripe Tax): computed of each closed invoice, within its total, and entered once.

Prices include tax (docs/adr/0022), so nothing waits for it: what is due is due whatever part of it is tax.
"""

import logging
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing import collecting, outbox
from billing.customers import ensure_customer, notify
from billing.errors import ProviderRefused, ProviderUnavailable
from billing.models import Account, CreditGrant, CreditNote, Invoice, InvoiceTax, Notice
from billing.providers import collects_money
from billing.providers.base_tax import TaxOrder, TaxState
from billing.sums import total_of
from billing.tax import post_tax

log = logging.getLogger(__name__)

Status = InvoiceTax.Status
CALCULATE: Final = "tax.calculate"
RECORD: Final = "tax.record"
REVERSE: Final = "tax.reverse"
NO_LOCATION: Final = "customer_tax_location_invalid"
MISMATCH: Final = "total_mismatch"
# Credit that was paid for. What free credit alone covered was sold to nobody, and is not taxed.
_PAID_FOR: Final = (CreditGrant.Kind.TOP_UP, CreditGrant.Kind.INVOICE, CreditGrant.Kind.OPERATOR)
# Stripe knows the rates of the last 31 days.
_RATES_KNOWN: Final = timedelta(days=30)


def is_on() -> bool:
    """Whether the provider computes taxes."""
    return bool(settings.STRIPE_TAX) and collects_money()


def ask_tax(account: Account, invoice: Invoice) -> None:
    """Have the provider asked what tax a closed invoice includes. In the transaction that closes the month."""
    if not is_on() or invoice.total_cents <= 0:
        return
    if not invoice.due_cents and not CreditGrant.objects.filter(account=account, kind__in=_PAID_FOR).exists():
        return
    ensure_customer(account)
    InvoiceTax.objects.create(invoice=invoice)
    outbox.enqueue(account, kind=CALCULATE, subject=invoice.pk, parameters={})


def order_of(invoice: Invoice, *, customer_id: str, now: datetime) -> TaxOrder:
    """Return what the provider is asked: the rates of the month's last day, while it knows them.

    What was given back before its tax was known, by a refund at the provider, is not taxed at all.
    """
    last = invoice.ends_at - timedelta(seconds=1)
    return TaxOrder(
        customer=customer_id,
        reference=invoice.number,
        amount_cents=_taxable_cents(invoice),
        currency=invoice.currency,
        taxed_at=last if last > now - _RATES_KNOWN else None,
    )


def _taxable_cents(invoice: Invoice) -> int:
    return int(invoice.total_cents - total_of(CreditNote.objects.filter(invoice=invoice), "total_cents"))


@transaction.atomic
def apply_tax(invoice: Invoice, state: TaxState) -> None:
    """Enter what an invoice's taxes are, once: from the revenue into what is owed to the tax office.

    Raises:
        ProviderUnavailable: a part was given back since the provider was asked. Nothing was entered; it is asked again.
    """
    invoice = collecting.lock_invoice(invoice)
    tax = InvoiceTax.objects.select_for_update().get(invoice=invoice)
    if tax.status == Status.KNOWN:
        return
    if state.total_cents != _taxable_cents(invoice):
        message = "A part of the invoice was given back while its tax was computed."
        raise ProviderUnavailable(message)
    tax.status, tax.calculation_id, tax.failure, tax.known_at = Status.KNOWN, state.id, "", timezone.now()
    tax.lines = [asdict(line) for line in state.lines]
    tax.save(update_fields=["status", "calculation_id", "failure", "known_at", "lines"])
    invoice.tax_cents = state.tax_cents
    invoice.save(update_fields=["tax_cents"])
    post_tax(invoice.account, state.tax_cents, reference=invoice.number)
    outbox.enqueue(invoice.account, kind=RECORD, subject=invoice.pk, parameters={"calculation": state.id})


@transaction.atomic
def refuse_tax(invoice: Invoice, error: ProviderRefused) -> None:
    """Note that an invoice's tax is not known, and tell its account's people where they can see to it."""
    tax = InvoiceTax.objects.select_for_update().get(invoice=invoice)
    tax.status = Status.LOCATION if error.reason == NO_LOCATION else Status.FAILED
    tax.failure = str(error)[:300]
    tax.save(update_fields=["status", "failure"])
    if tax.status == Status.LOCATION:
        notify(invoice.account, Notice.Kind.TAX_LOCATION, subject=invoice.number)
    log.error("The tax of invoice %s is not known: %s", invoice.number, error)


@transaction.atomic
def note_record(invoice: Invoice, record_id: str) -> None:
    """Note that an invoice's tax is in the provider's reports."""
    InvoiceTax.objects.filter(invoice=invoice).update(record_id=record_id, recorded_at=timezone.now())


@transaction.atomic
def ask_again(account: Account) -> int:
    """Ask again about the invoices of an account whose tax was refused: its address may be known now. Return how many."""
    refused = InvoiceTax.objects.select_for_update(of=("self",)).filter(
        invoice__account=account, status__in=[Status.LOCATION, Status.FAILED]
    )
    asked = 0
    for tax in refused:
        if outbox.reopen(kind=CALCULATE, subject=tax.invoice_id):
            tax.status = Status.WAITING
            tax.save(update_fields=["status"])
            asked += 1
    return asked


def find_state(invoice: Invoice) -> InvoiceTax | None:
    """Return how far the asking is for an invoice's tax, or None where the provider is not asked."""
    return InvoiceTax.objects.filter(invoice=invoice).first()


def is_known(invoice: Invoice) -> bool:
    """Whether an invoice's tax is what it will be: stated at the close, or answered."""
    return not InvoiceTax.objects.filter(invoice=invoice).exclude(status=Status.KNOWN).exists()


def untaxed_cents(invoice: Invoice) -> int:
    """Return what was given back of an invoice before the provider computed its tax: there is none within it."""
    tax = InvoiceTax.objects.filter(invoice=invoice, known_at__isnull=False).first()
    return 0 if tax is None else total_of(CreditNote.objects.filter(invoice=invoice, created_at__lt=tax.known_at), "total_cents")


def reverse(note: CreditNote) -> None:
    """Have the provider take a credit note's part out of its reports, if it computed the tax of it. In the note's transaction."""
    if InvoiceTax.objects.filter(invoice=note.invoice, status=Status.KNOWN).exists():
        outbox.enqueue(note.invoice.account, kind=REVERSE, subject=note.pk, parameters={})
