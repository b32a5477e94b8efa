"""What billing needs of whoever collects monthly invoices. Amounts are whole cents, tax included."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceOrder:
    """The head of an invoice to be collected."""

    reference: UUID
    customer: str
    number: str
    currency: str
    card: str  # Charged by itself; empty: the customer pays on the hosted page.
    days_until_due: int
    description: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceItem:
    """One line of it."""

    reference: str  # The line's id, or the name of what is no line.
    description: str
    amount_cents: int  # Negative where credit covers a part.
    merkle_root: str
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceState:
    """An invoice as it is now."""

    id: str
    status: str  # Stripe's: "draft", "open", "paid", "void", "uncollectible".
    currency: str
    total_cents: int
    paid_cents: int
    noted_cents: int  # Credit notes given before it was paid.
    reference: UUID | None
    hosted_url: str
    due_at: datetime | None
    was_refused: bool  # The saved card was charged, and refused.


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditNoteOrder:
    """A correction of a finalized invoice."""

    reference: UUID
    invoice: str
    amount_cents: int
    memo: str
    settlement: str  # "due": less is due. "credit": given back outside of the provider. "card".


class InvoiceProvider(Protocol):
    """Collects invoices. As for every method of `Provider`: one call over the network, and never inside a transaction."""

    def create_invoice(self, order: InvoiceOrder, *, key: str) -> InvoiceState:
        """Make a draft without lines."""
        ...

    def find_invoice(self, order: InvoiceOrder) -> InvoiceState | None:
        """Return the invoice made for an order, if any."""
        ...

    def get_invoice(self, identity: str) -> InvoiceState:
        """Return an invoice."""
        ...

    def fill_invoice(self, identity: str, order: InvoiceOrder, items: Sequence[InvoiceItem], *, key: str) -> InvoiceState:
        """Add the lines that a draft does not have yet; return it with its total."""
        ...

    def finalize_invoice(self, identity: str, *, key: str) -> InvoiceState:
        """Make a draft final; one that is final stays as it is."""
        ...

    def pay_invoice(self, identity: str, *, card: str, key: str) -> InvoiceState:
        """Charge a saved card for it; one that was paid stays so.

        Raises:
            CardRefused: the card was declined, or its owner has to be there.
        """
        ...

    def send_invoice(self, identity: str, *, key: str) -> InvoiceState:
        """Mail it to the customer."""
        ...

    def void_invoice(self, identity: str, *, key: str) -> InvoiceState:
        """Take it back; one that is over stays as it is."""
        ...

    def discard_invoice(self, identity: str, *, key: str) -> InvoiceState | None:
        """Delete a draft, or void what somebody made final meanwhile; None: there is none any more."""
        ...

    def give_up_invoice(self, identity: str, *, key: str) -> InvoiceState:
        """Mark it as uncollectible; one that is over stays as it is."""
        ...

    def find_paid_invoice(self, payment: str) -> InvoiceState | None:
        """Return the invoice that a payment paid, if it paid one."""
        ...

    def find_note_of_refund(self, identity: str, refund: str) -> UUID | None:
        """Return which credit note of ours on an invoice made a refund, if one did."""
        ...

    def create_credit_note(self, order: CreditNoteOrder, *, key: str) -> str:
        """Correct an invoice; return the note's id."""
        ...

    def find_credit_note(self, order: CreditNoteOrder) -> str | None:
        """Return the id of the note made for an order, if any."""
        ...
