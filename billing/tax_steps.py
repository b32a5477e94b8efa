"""The outbox's steps towards the provider's tax: calculated, recorded, and taken back by credit notes."""

from collections.abc import Mapping
from typing import Any, Final

from billing import collecting, taxing
from billing.errors import ProviderRefused, ProviderUnavailable
from billing.models import CreditNote, Invoice, InvoiceTax, OutboxRow
from billing.providers import provider
from billing.providers.base_tax import TaxState
from billing.steps import Step


class CalculateTax(Step[TaxState]):
    """Asks what tax an invoice's total includes. It has no effect there, so that asking twice does no harm."""

    def ask(self, row: OutboxRow) -> TaxState:
        """Calculate, and compare the total."""
        invoice = _invoice(row)
        customer_id = collecting.customer_id_of(row.account)
        if not customer_id:
            message = "The customer has not been made yet."
            raise ProviderUnavailable(message)
        # Since it is asked, not since the close: a location that becomes known months later gets the rates of then.
        order = taxing.order_of(invoice, customer_id=customer_id, now=row.first_sent_at or row.created_at)
        if order.amount_cents <= 0:
            raise ProviderRefused(reason="nothing_to_tax", said="All of the invoice was given back before its tax was known.")
        state = provider().calculate_tax(order, key=f"{row.idempotency_key}-{order.amount_cents}")
        if state.total_cents != order.amount_cents:
            said = f"The provider's total is {state.total_cents} cents, ours {order.amount_cents}."
            raise ProviderRefused(reason=taxing.MISMATCH, said=said)
        return state

    def look(self, row: OutboxRow) -> TaxState | None:  # noqa: ARG002 (every step's signature)
        """Nothing to find: it is calculated again."""
        return None

    def apply(self, row: OutboxRow, state: TaxState) -> None:
        """Enter it, and have it recorded."""
        taxing.apply_tax(_invoice(row), state)

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Say that it is not known, and why."""
        taxing.refuse_tax(_invoice(row), error)


class RecordTax(Step[str]):
    """Has a calculated tax be in the provider's reports."""

    def ask(self, row: OutboxRow) -> str:
        """Record it, by the invoice's number, which there is once."""
        return provider().record_tax(row.parameters["calculation"], reference=_invoice(row).number, key=row.idempotency_key)

    def look(self, row: OutboxRow) -> str | None:  # noqa: ARG002 (every step's signature)
        """Nothing to find: a number that was recorded before is refused, and taken for recorded."""
        return None

    def apply(self, row: OutboxRow, state: str) -> None:
        """Note it."""
        taxing.note_record(_invoice(row), state)

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Tell the operator."""
        InvoiceTax.objects.filter(invoice=_invoice(row)).update(failure=f"Not recorded: {error}"[:300])
        taxing.log.error("The tax of invoice %s is not in the provider's reports: %s", _invoice(row).number, error)


class ReverseTax(Step[str]):
    """Takes a credit note's part out of the provider's reports."""

    def ask(self, row: OutboxRow) -> str:
        """Reverse it."""
        note = _note(row)
        tax = InvoiceTax.objects.get(invoice=note.invoice)
        if tax.recorded_at is None:
            message = "The invoice's tax has not been recorded yet."
            raise ProviderUnavailable(message)
        if not tax.record_id:
            raise ProviderRefused(reason="record_unknown", said="The answer with its id was lost: reverse it at the provider by hand.")
        return provider().reverse_tax(tax.record_id, reference=note.number, amount_cents=note.total_cents, key=row.idempotency_key)

    def look(self, row: OutboxRow) -> str | None:  # noqa: ARG002 (every step's signature)
        """Nothing to find: a number that was reversed before is refused, and taken for reversed."""
        return None

    def apply(self, row: OutboxRow, state: str) -> None:
        """Nothing: the note and its posting were committed with the row."""

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Tell the operator: our note stands."""
        note = _note(row)
        InvoiceTax.objects.filter(invoice=note.invoice).update(failure=f"{note.number} is not reversed: {error}"[:300])
        taxing.log.error("The tax of credit note %s is not taken back at the provider: %s", note.number, error)


STEPS: Final[Mapping[str, Step[Any]]] = {taxing.CALCULATE: CalculateTax(), taxing.RECORD: RecordTax(), taxing.REVERSE: ReverseTax()}


def _invoice(row: OutboxRow) -> Invoice:
    return Invoice.objects.select_related("account").get(pk=row.subject)


def _note(row: OutboxRow) -> CreditNote:
    return CreditNote.objects.select_related("invoice__account").get(pk=row.subject)
