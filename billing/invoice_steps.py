"""The requests that collect an invoice: made, filled, compared and made final, then charged or sent. Each asks for the next."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from billing import collecting, outbox
from billing.errors import ProviderRefused, ProviderUnavailable
from billing.models import CreditNote, Invoice, OutboxRow
from billing.providers import provider
from billing.providers.base_invoices import CreditNoteOrder, InvoiceOrder, InvoiceState
from billing.steps import Step

MISMATCH: Final = "total_mismatch"
# What comes before an invoice is final.
_MAKING: Final = ("invoice.create", "invoice.fill", "invoice.finalize")


class _InvoiceStep(Step[InvoiceState]):
    """What the steps of one invoice share. A look is a fetch: each step's `ask` does nothing twice."""

    def look(self, row: OutboxRow) -> InvoiceState | None:  # noqa: ARG002 (every step's signature)
        """Nothing to find: asking again, under a fresh key, is refused where it has happened, and then fetched."""
        return None

    def apply(self, row: OutboxRow, state: InvoiceState) -> None:  # noqa: ARG002 (every step's signature)
        """Move the invoice to what the provider says."""
        collecting.apply_invoice(state)

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Stop, and tell the operator."""
        collecting.note_failure(_invoice(row), failure=str(error))


class CreateInvoice(_InvoiceStep):
    """Makes a draft."""

    def ask(self, row: OutboxRow) -> InvoiceState:
        """Make it."""
        return provider().create_invoice(_order(row), key=row.idempotency_key)

    def look(self, row: OutboxRow) -> InvoiceState | None:
        """Find it by the invoice's id."""
        return provider().find_invoice(_order(row))

    def apply(self, row: OutboxRow, state: InvoiceState) -> None:
        """Note its id, and have it filled."""
        collecting.apply_invoice(state)
        _next(row, "invoice.fill", row.parameters)


class FillInvoice(_InvoiceStep):
    """Adds the lines to a draft."""

    def ask(self, row: OutboxRow) -> InvoiceState:
        """Add those that are missing."""
        invoice = _invoice(row)
        state = provider().get_invoice(invoice.provider_id)
        if state.status != "draft":
            return state
        return provider().fill_invoice(invoice.provider_id, _order(row), collecting.items_of(invoice), key=row.idempotency_key)

    def apply(self, row: OutboxRow, state: InvoiceState) -> None:
        """Have it made final."""
        collecting.apply_invoice(state)
        _next(row, "invoice.finalize", row.parameters)


class FinalizeInvoice(_InvoiceStep):
    """Makes a draft final, if it comes to what we say is due."""

    def ask(self, row: OutboxRow) -> InvoiceState:
        """Compare, and make it final."""
        invoice = _invoice(row)
        state = provider().get_invoice(invoice.provider_id)
        if state.total_cents != invoice.due_cents:
            raise ProviderRefused(reason=MISMATCH, said=f"The provider's total is {state.total_cents} cents, ours {invoice.due_cents}.")
        return provider().finalize_invoice(invoice.provider_id, key=row.idempotency_key) if state.status == "draft" else state

    def apply(self, row: OutboxRow, state: InvoiceState) -> None:
        """Have it charged, or sent."""
        collecting.apply_invoice(state)
        _next(row, "invoice.pay" if row.parameters["card"] else "invoice.send", row.parameters)


class PayInvoice(_InvoiceStep):
    """Charges the saved card for an invoice."""

    def ask(self, row: OutboxRow) -> InvoiceState:
        """Charge it, unless it was paid meanwhile."""
        identity = _invoice(row).provider_id
        state = provider().get_invoice(identity)
        return provider().pay_invoice(identity, card=row.parameters["card"], key=row.idempotency_key) if state.status == "open" else state

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Begin the grace: the customer can still pay on the hosted page."""
        collecting.mark_past_due(_invoice(row), failure=error.reason)


class SendInvoice(_InvoiceStep):
    """Has the provider mail an invoice."""

    def ask(self, row: OutboxRow) -> InvoiceState:
        """Send it."""
        return provider().send_invoice(_invoice(row).provider_id, key=row.idempotency_key)


class VoidInvoice(_InvoiceStep):
    """Takes an invoice back."""

    def ask(self, row: OutboxRow) -> InvoiceState:
        """Void it; one that was refused before it was final, and will be no more, is cancelled: its draft is deleted."""
        invoice = _invoice(row)
        if invoice.hosted_url:
            return provider().void_invoice(invoice.provider_id, key=row.idempotency_key)
        if OutboxRow.objects.filter(subject=row.subject, kind__in=_MAKING, state=OutboxRow.State.WAITING).exists():
            message = "The invoice is being made."
            raise ProviderUnavailable(message)
        left = provider().discard_invoice(invoice.provider_id, key=row.idempotency_key) if invoice.provider_id else None
        return left or _cancelled(invoice)


class GiveUpInvoice(_InvoiceStep):
    """Gives an invoice up."""

    def ask(self, row: OutboxRow) -> InvoiceState:
        """Mark it as uncollectible."""
        return provider().give_up_invoice(_made(row), key=row.idempotency_key)


def _cancelled(invoice: Invoice) -> InvoiceState:
    """Return what the provider would say of an invoice that it does not have."""
    return InvoiceState(
        id=invoice.provider_id,
        status="void",
        currency=invoice.currency,
        total_cents=invoice.due_cents,
        paid_cents=0,
        noted_cents=0,
        reference=invoice.pk,
        hosted_url="",
        due_at=None,
        was_refused=False,
    )


class CreateCreditNote(Step[str]):
    """Corrects an invoice at the provider, and gives money back where the note says so."""

    def ask(self, row: OutboxRow) -> str:
        """Make the note."""
        return provider().create_credit_note(_note_order(row), key=row.idempotency_key)

    def look(self, row: OutboxRow) -> str | None:
        """Find it by our note's id."""
        return provider().find_credit_note(_note_order(row))

    def apply(self, row: OutboxRow, state: str) -> None:
        """Nothing: the note and its posting were committed with the row."""

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Tell the operator: our note stands, the provider's has to be made by hand."""
        note = CreditNote.objects.select_related("invoice__account").get(pk=row.subject)
        collecting.note_failure(note.invoice, failure=f"{note.number}: {error}")


STEPS: Final[Mapping[str, Step[Any]]] = {
    "invoice.create": CreateInvoice(),
    "invoice.fill": FillInvoice(),
    "invoice.finalize": FinalizeInvoice(),
    "invoice.pay": PayInvoice(),
    "invoice.send": SendInvoice(),
    "invoice.void": VoidInvoice(),
    "invoice.give_up": GiveUpInvoice(),
    "credit_note.create": CreateCreditNote(),
}


def _invoice(row: OutboxRow) -> Invoice:
    return Invoice.objects.select_related("account").get(pk=row.subject)


def _made(row: OutboxRow) -> str:
    invoice = _invoice(row)
    _check_final(invoice)
    return invoice.provider_id


def _check_final(invoice: Invoice) -> None:
    """Wait while an invoice is a draft at the provider, or not even that: drafts have no page to pay them on.

    Raises:
        ProviderRefused: it was cancelled before it was final. There is nothing to correct.
    """
    if not invoice.hosted_url and invoice.status == Invoice.Status.VOID:
        raise ProviderRefused(reason="invoice_cancelled", said="The invoice was cancelled before it was final.")
    if not invoice.hosted_url:
        message = "The invoice has not been made final yet."
        raise ProviderUnavailable(message)


def _order(row: OutboxRow) -> InvoiceOrder:
    customer_id = collecting.customer_id_of(row.account)
    if not customer_id:
        message = "The customer has not been made yet."
        raise ProviderUnavailable(message)
    return collecting.order_of(_invoice(row), customer_id=customer_id, card=row.parameters["card"], days=row.parameters["days"])


def _note_order(row: OutboxRow) -> CreditNoteOrder:
    note = CreditNote.objects.select_related("invoice").get(pk=row.subject)
    _check_final(note.invoice)
    return CreditNoteOrder(
        reference=UUID(row.subject),
        invoice=note.invoice.provider_id,
        amount_cents=note.total_cents,
        memo=f"{note.number}: {note.reason}"[:200],
        settlement="due" if note.lowers_due else note.settlement,
    )


def _next(row: OutboxRow, kind: str, parameters: dict[str, object]) -> None:
    outbox.enqueue(row.account, kind=kind, subject=row.subject, parameters=parameters)
