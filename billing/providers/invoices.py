"""The part of `StripeProvider` that collects monthly invoices.

Source: docs.stripe.com/api/invoices. We advance each invoice ourselves (`auto_advance` off): a draft that Stripe
finalizes by itself after an hour might not have all of its lines.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from billing.errors import GONE, CardRefused, ProviderRefused
from billing.providers.base_invoices import CreditNoteOrder, InvoiceItem, InvoiceOrder, InvoiceState
from billing.providers.metadata import reference_in

_INVOICE: Final = "farebox_invoice"
_LINE: Final = "farebox_line"
_NOTE: Final = "farebox_credit_note"
_ROOT: Final = "farebox_merkle_root"
_PAGE: Final = 100
_SLACK_S: Final = 3600


class InvoiceCalls:
    """Calls over the client of `StripeProvider`."""

    _client: Any

    def _errors(self) -> AbstractContextManager[None]:
        """Return what turns the library's errors into ours: `StripeProvider`'s file alone imports the library."""
        raise NotImplementedError

    def create_invoice(self, order: InvoiceOrder, *, key: str) -> InvoiceState:
        """Make a draft that takes no item but those made for it."""
        asked: dict[str, Any] = {
            "customer": order.customer,
            "currency": order.currency,
            "auto_advance": False,
            "pending_invoice_items_behavior": "exclude",
            "description": order.description,
            "metadata": {_INVOICE: str(order.reference), "farebox_number": order.number},
            "collection_method": "charge_automatically" if order.card else "send_invoice",
        }
        if not order.card:
            asked["days_until_due"] = order.days_until_due
        with self._errors():
            return _invoice(self._client.v1.invoices.create(asked, {"idempotency_key": key}))

    def find_invoice(self, order: InvoiceOrder) -> InvoiceState | None:
        """Return the invoice of an order, by its metadata."""
        since = {"gte": int(order.created_at.timestamp()) - _SLACK_S}
        with self._errors():
            listed = self._client.v1.invoices.list({"customer": order.customer, "created": since, "limit": _PAGE})
            states = map(_invoice, listed.auto_paging_iter())
            return next((state for state in states if state.reference == order.reference), None)

    def get_invoice(self, identity: str) -> InvoiceState:
        """Return an invoice."""
        with self._errors():
            return _invoice(self._client.v1.invoices.retrieve(identity))

    def fill_invoice(self, identity: str, order: InvoiceOrder, items: Sequence[InvoiceItem], *, key: str) -> InvoiceState:
        """Add the missing items: those that are there are read first, so that no fault adds one twice."""
        with self._errors():
            listed = self._client.v1.invoice_items.list({"invoice": identity, "limit": _PAGE})
            there = {getattr(one.metadata, _LINE, "") for one in listed.auto_paging_iter()}
            for place, item in enumerate(items):
                if item.reference not in there:
                    self._client.v1.invoice_items.create(_item(identity, order, item), {"idempotency_key": f"{key}-{place}"})
        return self.get_invoice(identity)

    def finalize_invoice(self, identity: str, *, key: str) -> InvoiceState:
        """Make it final. Under a fresh key, a second time is refused: then it is looked at."""
        return self._advance(
            identity, lambda: self._client.v1.invoices.finalize_invoice(identity, {"auto_advance": False}, _key(key)), "open", "paid"
        )

    def pay_invoice(self, identity: str, *, card: str, key: str) -> InvoiceState:
        """Charge a saved card, its owner being away."""
        asked = {"payment_method": card, "off_session": True}
        return self._advance(identity, lambda: self._client.v1.invoices.pay(identity, asked, _key(key)), "paid")

    def send_invoice(self, identity: str, *, key: str) -> InvoiceState:
        """Have Stripe mail it: it does so to customers whose address it has; our own mail goes out in any case."""
        return self._advance(
            identity, lambda: self._client.v1.invoices.send_invoice(identity, {}, _key(key)), "open", "paid", "void", "uncollectible"
        )

    def void_invoice(self, identity: str, *, key: str) -> InvoiceState:
        """Void it."""
        return self._advance(identity, lambda: self._client.v1.invoices.void_invoice(identity, {}, _key(key)), "void", "paid")

    def discard_invoice(self, identity: str, *, key: str) -> InvoiceState | None:
        """Delete a draft, which needs no key; void what somebody made final in the dashboard."""
        try:
            state = self.get_invoice(identity)
        except ProviderRefused as error:
            if error.reason != GONE:
                raise
            return None
        if state.status != "draft":
            return self.void_invoice(identity, key=key)
        with self._errors():
            self._client.v1.invoices.delete(identity)
        return None

    def give_up_invoice(self, identity: str, *, key: str) -> InvoiceState:
        """Mark it as uncollectible."""
        return self._advance(
            identity, lambda: self._client.v1.invoices.mark_uncollectible(identity, {}, _key(key)), "uncollectible", "paid", "void"
        )

    def create_credit_note(self, order: CreditNoteOrder, *, key: str) -> str:
        """Make a note of one line of its own; the invoice's lines are named in its memo."""
        asked: dict[str, Any] = {
            "invoice": order.invoice,
            "memo": order.memo,
            "metadata": {_NOTE: str(order.reference)},
            "lines": [{"type": "custom_line_item", "description": order.memo, "quantity": 1, "unit_amount": order.amount_cents}],
        }
        if order.settlement == "card":
            asked["refund_amount"] = order.amount_cents
        elif order.settlement == "credit":  # Not into Stripe's customer balance: the credit is in our own ledger.
            asked["out_of_band_amount"] = order.amount_cents
        with self._errors():
            return str(self._client.v1.credit_notes.create(asked, {"idempotency_key": key}).id)

    def find_credit_note(self, order: CreditNoteOrder) -> str | None:
        """Return the note of an order, by its metadata."""
        with self._errors():
            listed = self._client.v1.credit_notes.list({"invoice": order.invoice, "limit": _PAGE})
            return next((str(one.id) for one in listed.auto_paging_iter() if reference_in(one.metadata, _NOTE) == order.reference), None)

    def find_paid_invoice(self, payment: str) -> InvoiceState | None:
        """Return the invoice that a payment paid: an intent does not name it itself (since API 2025-03-31)."""
        of = {"type": "payment_intent", "payment_intent": payment}
        with self._errors():
            found = self._client.v1.invoice_payments.list({"payment": of, "status": "paid", "limit": 1}).data
        return self.get_invoice(str(found[0].invoice)) if found else None

    def find_note_of_refund(self, identity: str, refund: str) -> UUID | None:
        """Return the note of ours, by its metadata, that names a refund."""
        with self._errors():
            for note in self._client.v1.credit_notes.list({"invoice": identity, "limit": _PAGE}).auto_paging_iter():
                if refund in {str(one.refund) for one in note.refunds or ()}:
                    return reference_in(note.metadata, _NOTE)
        return None

    def _advance(self, identity: str, ask: Any, *reached: str) -> InvoiceState:
        """Ask for a change; where it is refused because it has happened, return the invoice as it is."""
        try:
            with self._errors():
                return _invoice(ask())
        except CardRefused:
            raise
        except ProviderRefused:
            state = self.get_invoice(identity)
            if state.status not in reached:
                raise
            return state


def _key(key: str) -> dict[str, str]:
    return {"idempotency_key": key}


def _item(identity: str, order: InvoiceOrder, item: InvoiceItem) -> dict[str, Any]:
    metadata = {_LINE: item.reference, **({_ROOT: item.merkle_root} if item.merkle_root else {})}
    return {
        "customer": order.customer,
        "invoice": identity,
        "currency": order.currency,
        "amount": item.amount_cents,
        "description": item.description,
        "period": {"start": int(item.starts_at.timestamp()), "end": int(item.ends_at.timestamp())},
        "metadata": metadata,
    }


def _invoice(made: Any) -> InvoiceState:
    is_automatic = made.collection_method == "charge_automatically"
    return InvoiceState(
        id=made.id,
        status=made.status or "draft",
        currency=made.currency,
        total_cents=made.total,
        paid_cents=made.amount_paid,
        noted_cents=made.pre_payment_credit_notes_amount or 0,
        reference=reference_in(made.metadata, _INVOICE),
        hosted_url=made.hosted_invoice_url or "",
        due_at=datetime.fromtimestamp(made.due_date, UTC) if made.due_date else None,
        was_refused=is_automatic and made.status == "open" and made.attempt_count > 0,
    )
