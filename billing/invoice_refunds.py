"""Payments of invoices that were given back: by a credit note of ours, or by somebody at the provider, which is found out."""

import logging
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db import transaction

from billing import collecting
from billing.credit_notes import creditable_cents, note_refund
from billing.ledger import grant_credit
from billing.models import CreditGrant, CreditNote, CreditReversal, Invoice, InvoiceRefund, OutboxRow, PaymentRefund
from billing.money import NANOS_PER_CENT, Nanos
from billing.providers import provider
from billing.providers.base import RefundState
from billing.repaying import REFUND_STATES, is_forward
from billing.reversals import reverse_credit

log = logging.getLogger(__name__)
Status = PaymentRefund.Status


def learn_refund(state: RefundState) -> bool:
    """Book a refund if it is of an invoice's payment; False where it is not. Asks the provider, in no transaction.

    The invoice is heard of first: the webhook of its payment may come after the refund's.

    Raises:
        ValueError: the invoice is not known to be paid. Nothing was booked; it is tried again.
    """
    paid = provider().find_paid_invoice(state.payment)
    if paid is None or paid.reference is None or not collecting.apply_invoice(paid):
        return False
    invoice = Invoice.objects.select_related("account").get(pk=paid.reference)
    if invoice.provider_id != paid.id:
        return False
    return apply_refund(invoice, state, note=provider().find_note_of_refund(paid.id, state.id))


@transaction.atomic
def apply_refund(invoice: Invoice, state: RefundState, *, note: UUID | None) -> bool:
    """Move a refund of an invoice's payment to what the provider says; one made there becomes a credit note. Safe in any order, and twice.

    Args:
        invoice: Whose payment was given back.
        state: The refund.
        note: Our credit note that made it, if one did, as the provider says.

    Raises:
        ValueError: the invoice is not known to be paid, or it is not known yet whether a note of ours made it.
    """
    invoice = collecting.lock_invoice(invoice)
    if invoice.status != Invoice.Status.PAID:
        message = f"Invoice {invoice.number} is not paid, and a payment of it is refunded."
        raise ValueError(message)
    refund = InvoiceRefund.objects.filter(refund_id=state.id).first() or _book(invoice, state, note)
    status = REFUND_STATES.get(state.status, Status.PENDING)
    if is_forward(refund.status, status):
        refund.status = status
        refund.save(update_fields=["status"])
        if status == Status.FAILED:  # The money is back here: it is credit, for the invoice stays corrected.
            amount = Nanos(refund.amount_cents * NANOS_PER_CENT)
            grant_credit(
                invoice.account, amount, kind=CreditGrant.Kind.TOP_UP, reference=f"invoice_refund_failed:{refund.pk}", by="payments"
            )
    return True


def _book(invoice: Invoice, state: RefundState, reference: UUID | None) -> InvoiceRefund:
    identity = uuid5(NAMESPACE_URL, f"stripe:{state.id}")
    note = _note_of_ours(invoice, state, reference)
    owed = 0
    if note is None:
        amounts, owed = _spread(invoice, state.amount_cents)
        if amounts:
            note = note_refund(invoice, amounts, reason="Refunded at the provider.", reference=identity, by="payments")
        if owed:  # It had paid what was owed from before: there is no line to take back, so it is owed again.
            reverse_credit(
                invoice.account,
                owed,
                kind=CreditReversal.Kind.REFUND,
                reference=f"invoice_refund:{identity}",
                by="payments",
                may_owe=True,
            )
        log.warning("%d cents of invoice %s were refunded at the provider.", state.amount_cents, invoice.number)
    return InvoiceRefund.objects.create(
        id=identity, invoice=invoice, note=note, refund_id=state.id, amount_cents=state.amount_cents, owed_cents=owed
    )


def _note_of_ours(invoice: Invoice, state: RefundState, reference: UUID | None) -> CreditNote | None:
    """Return the note of ours that a refund is of: the provider's says so, or it was refused and the refund made by hand.

    Raises:
        ValueError: one is being made there, of which this may be the refund.
    """
    notes = CreditNote.objects.filter(invoice=invoice)
    if reference and (named := notes.filter(pk=reference).first()):
        return named
    # Its money left the books with it: booked again, the same refund would be taken from the account twice.
    alike = notes.filter(settlement=CreditNote.Settlement.CARD, total_cents=state.amount_cents, refund__isnull=True).order_by(
        "created_at", "pk"
    )
    asked = OutboxRow.objects.filter(kind="credit_note.create", subject__in=[str(note.pk) for note in alike])
    rows = {row.subject: row for row in asked}
    refused = [note for note in alike if str(note.pk) in rows and rows[str(note.pk)].state == OutboxRow.State.REFUSED]
    if refused:
        return refused[0]
    if any(row.state == OutboxRow.State.WAITING and row.first_sent_at for row in rows.values()):
        message = f"A credit note of invoice {invoice.number} is being made at the provider: {state.id} may be its refund."
        raise ValueError(message)
    return None


def _spread(invoice: Invoice, amount_cents: int) -> tuple[dict[int, int], int]:
    """Return what a refund takes back of each line, in their order, and what is left of it then."""
    amounts: dict[int, int] = {}
    for line, left in sorted(creditable_cents(invoice).items()):
        part = min(left, amount_cents)
        if part > 0:
            amounts[line] = part
            amount_cents -= part
    return amounts, amount_cents
