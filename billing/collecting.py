"""Collecting closed months of accounts that pay afterwards: what is due, and how it moves from open to paid.

Everything that tells of an invoice (the answer to a request, a webhook, a look of our own) ends in
`apply_invoice`, which moves it forward and credits what was paid once.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing import credit_lines, dunning, ledger, outbox
from billing.customers import lock_customer, notify, saved_cards
from billing.models import Account, CreditExpiry, CreditGrant, CreditNote, CreditReversal, Customer, Invoice, InvoiceLine, Notice
from billing.money import NANOS_PER_CENT, Nanos, render_percent
from billing.periods import month_of
from billing.providers import collects_money
from billing.providers.base_invoices import InvoiceItem, InvoiceOrder, InvoiceState
from billing.sums import total_of

log = logging.getLogger(__name__)

Status = Invoice.Status
# Stripe collects nothing smaller: it stays owed, and is due with the next month.
SMALLEST_CENTS: Final = 50
# Forward only. Paid is last: money that came is credited, whatever was thought before.
_RANK: Final = {Status.OPEN: 0, Status.PAST_DUE: 1, Status.UNCOLLECTIBLE: 2, Status.VOID: 3, Status.PAID: 4}
# What was given up is not paid either: to pay the providers of it all the same, the operator voids it.
OWED: Final = (Status.OPEN, Status.PAST_DUE, Status.UNCOLLECTIBLE)


def open_invoice(account: Account, invoice: Invoice) -> None:
    """Have what no credit covers collected, of an account that pays afterwards. In the transaction that closes the month."""
    if not collects_money() or not _pays_afterwards(account, invoice):
        return
    due_cents = uncovered_nanos(account) // NANOS_PER_CENT
    if due_cents < SMALLEST_CENTS:
        return
    invoice.status, invoice.due_cents = Status.OPEN, due_cents
    invoice.due_at = timezone.now() + timedelta(days=settings.INVOICE_DUE_DAYS)
    invoice.save(update_fields=["status", "due_cents", "due_at"])
    lock_customer(account)
    cards = saved_cards(account)
    parameters = {"card": cards[0].card_id if cards else "", "days": settings.INVOICE_DUE_DAYS}
    outbox.enqueue(account, kind="invoice.create", subject=invoice.pk, parameters=parameters)


def _pays_afterwards(account: Account, invoice: Invoice) -> bool:
    """Whether an account has a credit line, or had one in a month that the invoice bills.

    Else it is below zero by a dispute or a refund: nobody promised to pay that by invoice.
    """
    if account.credit_line_nanos:
        return True
    months = [line.late_from for line in invoice.lines.all() if line.late_from]
    return account.line_ended_at is not None and account.line_ended_at >= min([invoice.starts_at, *months])


def uncovered_nanos(account: Account) -> Nanos:
    """Return what the closed months cost beyond all credit, less what other invoices collect already."""
    billed = total_of(InvoiceLine.objects.filter(invoice__account=account), "charge_nanos")
    granted = total_of(CreditGrant.objects.filter(account=account), "amount_nanos")
    reversed_ = total_of(CreditReversal.objects.filter(account=account), "amount_nanos")
    owed = sum(owed_cents(invoice) for invoice in Invoice.objects.filter(account=account, status__in=OWED)) * NANOS_PER_CENT
    expired = total_of(CreditExpiry.objects.filter(account=account), "amount_nanos")
    return Nanos(max(0, billed - granted + reversed_ + expired - owed))


def owed_cents(invoice: Invoice) -> int:
    """Return what an invoice still asks for: what was due, less the credit notes given before it was paid."""
    return invoice.due_cents - total_of(CreditNote.objects.filter(invoice=invoice, lowers_due=True), "total_cents")


def order_of(invoice: Invoice, *, customer_id: str, card: str, days: int) -> InvoiceOrder:
    """Return the head of what the provider is asked to collect."""
    tax = ""
    if invoice.tax_cents and invoice.tax_basis_points:  # A rate that is stated: what Stripe computes comes later.
        tax = f" Includes {invoice.tax_name} of {render_percent(invoice.tax_basis_points)} %."
    return InvoiceOrder(
        reference=invoice.pk,
        customer=customer_id,
        number=invoice.number,
        currency=invoice.currency,
        card=card,
        days_until_due=days,
        description=f"Invoice {invoice.number}.{tax}",
        created_at=invoice.created_at,
    )


def items_of(invoice: Invoice) -> Sequence[InvoiceItem]:
    """Return an invoice's lines as the provider gets them: their sum is what is due, to the cent."""
    period = {"starts_at": invoice.starts_at, "ends_at": invoice.ends_at}
    items = [
        InvoiceItem(
            reference=str(line.pk),
            description=f"{line.name}: {line.units:,} {line.unit}s in {line.events:,} calls",
            amount_cents=line.amount_cents,
            merkle_root=line.merkle_root,
            **({"starts_at": line.late_from, "ends_at": month_of(line.late_from)[1]} if line.late_from else period),
        )
        for line in invoice.lines.order_by("pk")
        if line.amount_cents
    ]
    if invoice.carried_in_cents:
        items.append(_plain("carried", "Carried in from rounding", invoice.carried_in_cents, invoice))
    rest = invoice.due_cents - invoice.total_cents
    if rest:
        words = "Covered by prepaid credit" if rest < 0 else "Owed from before"
        items.append(_plain("credit" if rest < 0 else "before", words, rest, invoice))
    return items


def _plain(reference: str, description: str, amount_cents: int, invoice: Invoice) -> InvoiceItem:
    period = {"starts_at": invoice.starts_at, "ends_at": invoice.ends_at}
    return InvoiceItem(reference=reference, description=description, amount_cents=amount_cents, merkle_root="", **period)


@transaction.atomic
def apply_invoice(state: InvoiceState) -> bool:
    """Move an invoice to what the provider says; False where it is none of ours."""
    known = Invoice.objects.select_related("account").filter(pk=state.reference).first() if state.reference else None
    if known is None or known.status == Status.CLOSED:
        return False
    invoice = lock_invoice(known)
    if not invoice.provider_id:
        invoice.provider_id = state.id
    if invoice.provider_id != state.id:
        return False  # A second draft, made when the provider had forgotten our first request: it is never finalized.
    invoice.hosted_url = state.hosted_url or invoice.hosted_url
    invoice.due_at = state.due_at or invoice.due_at
    invoice.save(update_fields=["provider_id", "hosted_url", "due_at"])
    _follow(invoice, state)
    return True


def _follow(invoice: Invoice, state: InvoiceState) -> None:
    if state.status == "paid":
        _settle_paid(invoice, state)
    elif state.status == "void":
        _settle_void(invoice)
    elif state.status == "uncollectible":
        if _move(invoice, Status.UNCOLLECTIBLE):
            dunning.stop(invoice)
    elif state.status == "open":
        if invoice.status == Status.OPEN and state.hosted_url:
            notify(invoice.account, Notice.Kind.INVOICE_DUE, subject=invoice.number)
        if state.was_refused:
            mark_past_due(invoice, failure="The saved card was refused.")


@transaction.atomic
def mark_past_due(invoice: Invoice, *, failure: str = "") -> bool:
    """Note that an open invoice was not paid: the grace begins, and its people are told. False where it is not open."""
    invoice = lock_invoice(invoice)
    invoice.past_due_at, invoice.failure = invoice.past_due_at or timezone.now(), failure[:300] or invoice.failure
    if not _move(invoice, Status.PAST_DUE):
        return False
    notify(invoice.account, Notice.Kind.INVOICE_PAST_DUE, subject=invoice.number)
    return True


@transaction.atomic
def note_failure(invoice: Invoice, *, failure: str) -> None:
    """Note why an invoice cannot be collected: the operator has to look. Nothing else changes."""
    invoice = lock_invoice(invoice)
    invoice.failure = failure[:300]
    invoice.save(update_fields=["failure"])
    log.error("Invoice %s cannot be collected: %s", invoice.number, failure)


def lock_invoice(invoice: Invoice) -> Invoice:
    """Return an invoice locked, the customer before it: the same order everywhere. In a transaction."""
    lock_customer(invoice.account)
    return Invoice.objects.select_related("account").select_for_update(of=("self",)).get(pk=invoice.pk)


def customer_id_of(account: Account) -> str:
    """Return an account's id at the provider; empty until it was made there."""
    return Customer.objects.filter(account=account).values_list("customer_id", flat=True).first() or ""


def _settle_paid(invoice: Invoice, state: InvoiceState) -> None:
    if invoice.status == Status.PAID:
        return
    if (state.paid_cents + state.noted_cents, state.currency) != (invoice.due_cents, invoice.currency):
        # Nothing here asks for part payments or conversions. Whoever runs the site has to look.
        message = f"Invoice {invoice.number}: {state.paid_cents} {state.currency} came in for {owed_cents(invoice)} {invoice.currency}; it is not credited."
        raise ValueError(message)
    if state.paid_cents:
        amount = Nanos(state.paid_cents * NANOS_PER_CENT)
        ledger.grant_credit(invoice.account, amount, kind=CreditGrant.Kind.INVOICE, reference=f"invoice:{invoice.pk}", by="payments")
    invoice.paid_cents, invoice.failure = state.paid_cents, ""
    _end(invoice, Status.PAID)
    log.info("Invoice %s is paid: %d cents.", invoice.number, state.paid_cents)


def _settle_void(invoice: Invoice) -> None:
    if invoice.status == Status.VOID:
        return
    owed = owed_cents(invoice)
    if owed > 0:
        amount = Nanos(owed * NANOS_PER_CENT)
        ledger.grant_credit(invoice.account, amount, kind=CreditGrant.Kind.WAIVED, reference=f"invoice_void:{invoice.pk}", by="payments")
    _end(invoice, Status.VOID)


def _end(invoice: Invoice, status: Invoice.Status) -> None:
    invoice.settled_at = timezone.now()
    if _move(invoice, status) and dunning.may_restore(invoice.account) and credit_lines.restore_line(invoice.account):
        notify(invoice.account, Notice.Kind.LINE_RESTORED, subject=invoice.number)


def _move(invoice: Invoice, status: Invoice.Status) -> bool:
    if _RANK[Status(invoice.status)] >= _RANK[status]:
        return False
    invoice.status = status
    invoice.save(update_fields=["status", "past_due_at", "settled_at", "paid_cents", "failure"])
    return True
