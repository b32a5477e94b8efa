"""Corrections of closed invoices: a part of one taken back, with its tax, into credit or to the card that paid it."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Sum

from billing import collecting, ledger, outbox, taxing
from billing.errors import CreditNoteInvalid
from billing.models import CreditGrant, CreditNote, CreditNoteLine, CreditReversal, Invoice, OutboxRow
from billing.money import NANOS_PER_CENT, Nanos
from billing.reversals import reverse_credit
from billing.sums import total_of
from billing.tax import post_tax, tax_of_part

Settlement = CreditNote.Settlement
Status = Invoice.Status
_CARD_OF: Final = (Status.PAID,)


@transaction.atomic
def credit_invoice(
    invoice: Invoice, amounts: Mapping[int, int], *, settlement: str, reason: str, reference: UUID, by: str
) -> tuple[CreditNote, OutboxRow | None]:
    """Take a part of an invoice back; return the note, and the row that tells the provider. Safe to repeat: one note per reference.

    Args:
        invoice: A closed one.
        amounts: Cents, tax included, by the line's primary key.
        settlement: "credit" or "card".
        reason: What the customer reads.
        reference: The note's id.
        by: Who does it.

    Raises:
        CreditNoteInvalid: a line is not the invoice's, more would be taken back than it came to, or the card did not pay
            so much. Nothing was changed.
    """
    invoice = collecting.lock_invoice(invoice)
    found = CreditNote.objects.filter(pk=reference).first()
    if found is None:
        _check(invoice, amounts, settlement)
        found = _write(invoice, amounts, settlement, reason, reference, by)
    if not invoice.provider_id and invoice.status == Status.CLOSED:
        return found, None  # Never at the provider: paid from credit.
    return found, outbox.enqueue(invoice.account, kind="credit_note.create", subject=found.pk, parameters={})


def note_refund(invoice: Invoice, amounts: Mapping[int, int], *, reason: str, reference: UUID, by: str) -> CreditNote:
    """Note what was given back to the card at the provider already; nobody tells it. With the invoice locked."""
    return _write(invoice, amounts, Settlement.CARD, reason, reference, by)


def creditable_cents(invoice: Invoice) -> dict[int, int]:
    """Return what is left of each line of an invoice to take back, by the line's primary key."""
    given = dict(CreditNoteLine.objects.filter(line__invoice=invoice).values_list("line").annotate(total=Sum("amount_cents")))
    return {line.pk: max(0, line.amount_cents - int(given.get(line.pk, 0))) for line in invoice.lines.all()}


def refundable_to_card_cents(invoice: Invoice) -> int:
    """Return what is left of the payment of an invoice to give back to its card."""
    if invoice.status not in _CARD_OF:
        return 0
    return invoice.paid_cents - total_of(invoice.credit_notes.filter(settlement=Settlement.CARD), "total_cents")


def _check(invoice: Invoice, amounts: Mapping[int, int], settlement: str) -> None:
    left, total = creditable_cents(invoice), sum(amounts.values())
    if not amounts or any(amount <= 0 or amount > left.get(line, 0) for line, amount in amounts.items()):
        message = "A credit note takes back more than nothing and at most what is left of each line."
        raise CreditNoteInvalid(message)
    if settlement == Settlement.CARD and total > refundable_to_card_cents(invoice):
        message = f"{refundable_to_card_cents(invoice)} cents of the invoice's payment can be given back to the card."
        raise CreditNoteInvalid(message)
    if not taxing.is_known(invoice):
        message = "The provider has not said yet what tax the invoice includes: a correction could not say what it takes back of it."
        raise CreditNoteInvalid(message)
    if invoice.status in {Status.VOID, Status.UNCOLLECTIBLE}:
        message = "The invoice is void or given up."
        raise CreditNoteInvalid(message)
    if invoice.is_unpaid and total > collecting.owed_cents(invoice):
        message = "More would be taken back than is due. Wait until it is paid."
        raise CreditNoteInvalid(message)


def _write(  # noqa: PLR0917 (the facts of one row)
    invoice: Invoice, amounts: Mapping[int, int], settlement: str, reason: str, reference: UUID, by: str
) -> CreditNote:
    total, before = sum(amounts.values()), invoice.credit_notes.aggregate(total=Sum("total_cents"), tax=Sum("tax_cents"))
    # The tax of all notes together is that of their sum: notes over the whole invoice take back all of its tax.
    taxed = tax_of_part(invoice, int(before["total"] or 0) + total, untaxed_cents=taxing.untaxed_cents(invoice))
    note = CreditNote.objects.create(
        id=reference,
        number=f"{invoice.number}-C{invoice.credit_notes.count() + 1}",
        invoice=invoice,
        total_cents=total,
        tax_cents=taxed - int(before["tax"] or 0),
        settlement=settlement,
        lowers_due=invoice.is_unpaid,
        reason=reason[:200],
        by=by[:120],
    )
    CreditNoteLine.objects.bulk_create(CreditNoteLine(note=note, line_id=line, amount_cents=amount) for line, amount in amounts.items())
    amount = Nanos(total * NANOS_PER_CENT)
    ledger.grant_credit(invoice.account, amount, kind=CreditGrant.Kind.NOTE, reference=f"credit_note:{note.pk}", by=by)
    if settlement == Settlement.CARD:  # What was credited leaves at once, by the card.
        reverse_credit(invoice.account, total, kind=CreditReversal.Kind.REFUND, reference=f"credit_note:{note.pk}", by=by, may_owe=True)
    post_tax(invoice.account, -note.tax_cents, reference=note.number)
    taxing.reverse(note)
    return note
