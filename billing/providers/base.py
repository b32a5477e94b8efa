"""What billing needs of whoever collects the money, and the states it answers in. Amounts are whole cents."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from billing.providers.base_connect import ConnectProvider
from billing.providers.base_invoices import InvoiceProvider
from billing.providers.base_meters import MeterProvider
from billing.providers.base_tax import TaxProvider


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerState:
    """A customer at the provider."""

    id: str
    default_card: str | None
    reference: UUID | None  # The account that it is.


@dataclass(frozen=True, slots=True, kw_only=True)
class CardState:
    """A payment method: enough to tell cards apart, never enough to pay with."""

    id: str
    customer: str | None  # None: it was detached, for good.
    brand: str
    last4: str
    exp_month: int
    exp_year: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentState:
    """A payment as it is now."""

    id: str
    status: str  # Stripe's: "succeeded", "processing", "requires_payment_method", "canceled", ...
    amount_cents: int
    received_cents: int
    currency: str
    reference: UUID | None  # The top-up that it is for.
    failure: str = ""  # Code of its last refusal.
    customer: str = ""  # Whose it is, at the provider; empty where it says nothing.


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutState:
    """A Checkout session as it is now."""

    id: str
    url: str  # Where the customer pays; empty once it is over.
    status: str  # "open", "complete", "expired".
    is_paid: bool
    reference: UUID | None
    payment: PaymentState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundState:
    """A refund as it is now."""

    id: str
    status: str  # "pending", "succeeded", "failed", "canceled", "requires_action".
    amount_cents: int
    payment: str
    reference: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeState:
    """A dispute as it is now."""

    id: str
    status: str  # Stripe's: "needs_response", "under_review", "won", "lost", "warning_...", ...
    amount_cents: int
    payment: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderEvent:
    """Something happened to an object; the object itself is asked for again."""

    id: str
    type: str
    object_id: str
    created_at: datetime
    livemode: bool
    body: str  # As received, for the record.
    account: str = ""  # The connected account that it happened in; empty: our own.


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUpOrder:
    """What a customer is asked to pay."""

    customer: str
    reference: UUID
    amount_cents: int
    currency: str
    description: str
    created_at: datetime
    asks_address: bool = False  # Whether the customer's address and tax id are asked for, and kept at the provider.


class Provider(ConnectProvider, InvoiceProvider, MeterProvider, TaxProvider, Protocol):
    """Collects money. Each method is one call over the network; none may run inside a transaction.

    All raise ProviderUnavailable where it is not known whether anything happened, and
    ProviderRefused where nothing did. What creates takes an idempotency key: the same key
    again repeats the first answer.
    """

    name: str  # "offline", "fake", "stripe".

    def create_customer(self, *, key: str, reference: UUID, name: str) -> CustomerState:
        """Make a customer."""
        ...

    def find_customer(self, reference: UUID) -> CustomerState | None:
        """Return the customer made for a reference, if any."""
        ...

    def get_customer(self, identity: str) -> CustomerState:
        """Return a customer."""
        ...

    def create_checkout(self, order: TopUpOrder, *, key: str, success_url: str, cancel_url: str) -> CheckoutState:
        """Make a page on which the customer pays; the card is saved for later."""
        ...

    def find_checkout(self, order: TopUpOrder) -> CheckoutState | None:
        """Return the session made for an order, if any."""
        ...

    def get_checkout(self, identity: str) -> CheckoutState:
        """Return a session with its payment."""
        ...

    def charge_card(self, order: TopUpOrder, *, key: str, card: str) -> PaymentState:
        """Charge a saved card while its owner is away.

        Raises:
            CardRefused: the card was declined, or its owner has to be there.
        """
        ...

    def find_payment(self, order: TopUpOrder) -> PaymentState | None:
        """Return the payment made for an order, if any."""
        ...

    def get_payment(self, identity: str) -> PaymentState:
        """Return a payment."""
        ...

    def cancel_payment(self, identity: str, *, key: str) -> PaymentState:
        """Make sure that nobody completes a refused payment later; one that was paid stays so."""
        ...

    def get_card(self, identity: str) -> CardState:
        """Return a payment method."""
        ...

    def detach_card(self, identity: str, *, key: str) -> CardState:
        """Forget a card for good; one that is forgotten already stays so."""
        ...

    def create_refund(self, *, key: str, payment: str, amount_cents: int, reference: UUID) -> RefundState:
        """Give a payment back, in part or in full."""
        ...

    def find_refund(self, *, payment: str, reference: UUID) -> RefundState | None:
        """Return the refund made for a reference, if any."""
        ...

    def get_refund(self, identity: str) -> RefundState:
        """Return a refund."""
        ...

    def refunds_of_charge(self, charge: str) -> Sequence[RefundState]:
        """Return all refunds of a charge."""
        ...

    def get_dispute(self, identity: str) -> DisputeState:
        """Return a dispute."""
        ...

    def open_portal(self, customer: str, *, return_url: str) -> str:
        """Return the address of a page on which the customer manages cards and sees receipts."""
        ...

    def read_webhook(self, body: bytes, signature: str) -> ProviderEvent:
        """Return the event in a webhook.

        Raises:
            WebhookForged: the signature is wrong or more than 300 s old, or the body is no event.
        """
        ...

    def events_since(self, moment: datetime) -> Iterator[ProviderEvent]:
        """Yield what happened since a moment, the newest first."""
        ...
