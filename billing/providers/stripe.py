"""Stripe, and the fake that answers like it. The only file that talks through the `stripe` library.

Facts: timeouts of 10 s (the library's 80 s would hold a web thread), two retries by the library
under the same idempotency key, telemetry off.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import stripe

from billing.errors import CardRefused, ProviderRefused, ProviderUnavailable, WebhookForged
from billing.providers.base import (
    CardState,
    CheckoutState,
    CustomerState,
    DisputeState,
    PaymentState,
    ProviderEvent,
    RefundState,
    TopUpOrder,
)
from billing.providers.connect import ConnectCalls
from billing.providers.invoices import InvoiceCalls
from billing.providers.metadata import reference_in
from billing.providers.meters import MeterCalls, thin_event
from billing.providers.taxes import TaxCalls

# Metadata by which our rows are found again at Stripe.
_ACCOUNT: Final = "farebox_account"
_TOP_UP: Final = "farebox_top_up"
_REFUND: Final = "farebox_refund"
_PAGE: Final = 100
# Our clock may be ahead of Stripe's by as much.
_SLACK_S: Final = 3600
_RETRIES: Final = 2
# Of a Checkout session: what computing a tax needs to know of the customer, kept for the invoices to come.
_ADDRESS: Final[Any] = {
    "billing_address_collection": "required",
    "tax_id_collection": {"enabled": True},
    "customer_update": {"address": "auto", "name": "auto"},
}

stripe.enable_telemetry = False
# The library logs parameters at INFO: names of customers. WARNING has none.
logging.getLogger("stripe").setLevel(logging.WARNING)


class StripeProvider(ConnectCalls, InvoiceCalls, MeterCalls, TaxCalls):
    """Talks to Stripe, or to the fake where `base_url` names it."""

    def __init__(
        self,
        *,
        api_key: str,
        webhook_secret: str,
        timeout_s: float,
        connect_webhook_secret: str = "",
        thin_webhook_secret: str = "",
        base_url: str = "",
        name: str = "stripe",
        retries: int = _RETRIES,
    ) -> None:
        self.name = name
        # Stripe signs with a secret of each endpoint's own: that of our account's events, of connected accounts', and of thin events.
        self._webhook_secrets = [secret for secret in (webhook_secret, connect_webhook_secret, thin_webhook_secret) if secret]
        addresses: Any = {}
        if base_url:
            addresses = {"api": base_url, "connect": base_url, "files": base_url, "meter_events": base_url}
        self._client = stripe.StripeClient(
            api_key, max_network_retries=retries, base_addresses=addresses, http_client=stripe.RequestsClient(timeout=timeout_s)
        )

    # ------------------------------------------------------------ Customers and cards

    def create_customer(self, *, key: str, reference: UUID, name: str) -> CustomerState:
        """Make a customer; an account's name is all that Stripe learns of it."""
        with _asking():
            made = self._client.v1.customers.create({"name": name, "metadata": {_ACCOUNT: str(reference)}}, {"idempotency_key": key})
        return _customer(made)

    def find_customer(self, reference: UUID) -> CustomerState | None:
        """Return the customer made for an account. Stripe's search lags by up to a minute: a second customer is no harm."""
        with _asking():
            found = self._client.v1.customers.search({"query": f"metadata['{_ACCOUNT}']:'{reference}'", "limit": 1})
        return _customer(found.data[0]) if found.data else None

    def get_customer(self, identity: str) -> CustomerState:
        """Return a customer."""
        with _asking():
            return _customer(self._client.v1.customers.retrieve(identity))

    def get_card(self, identity: str) -> CardState:
        """Return a payment method."""
        with _asking():
            return _card(self._client.v1.payment_methods.retrieve(identity))

    def detach_card(self, identity: str, *, key: str) -> CardState:
        """Forget a card; one that was forgotten by another way stays so."""
        try:
            with _asking():
                return _card(self._client.v1.payment_methods.detach(identity, {}, {"idempotency_key": key}))
        except ProviderRefused:
            card = self.get_card(identity)
            if card.customer is not None:
                raise
            return card

    def open_portal(self, customer: str, *, return_url: str) -> str:
        """Return the address of the customer portal."""
        with _asking():
            return str(self._client.v1.billing_portal.sessions.create({"customer": customer, "return_url": return_url}).url)

    # ------------------------------------------------------------ Checkout and payments

    def create_checkout(self, order: TopUpOrder, *, key: str, success_url: str, cancel_url: str) -> CheckoutState:
        """Make a Checkout session that saves the card for payments without its owner."""
        with _asking():
            session = self._client.v1.checkout.sessions.create(
                {
                    "mode": "payment",
                    "customer": order.customer,
                    "client_reference_id": str(order.reference),
                    "metadata": {_TOP_UP: str(order.reference)},
                    "line_items": [
                        {
                            "quantity": 1,
                            "price_data": {
                                "currency": order.currency,
                                "unit_amount": order.amount_cents,
                                "product_data": {"name": order.description},
                            },
                        }
                    ],
                    "payment_intent_data": {"setup_future_usage": "off_session", "metadata": {_TOP_UP: str(order.reference)}},
                    "success_url": success_url,
                    "cancel_url": cancel_url,
                    **(_ADDRESS if order.asks_address else {}),
                },
                {"idempotency_key": key},
            )
        return _checkout(session)

    def find_checkout(self, order: TopUpOrder) -> CheckoutState | None:
        """Return the session of an order."""
        with _asking():
            listed = self._client.v1.checkout.sessions.list(
                {"customer": order.customer, "created": _since(order), "limit": _PAGE, "expand": ["data.payment_intent"]}
            )
            states = map(_checkout, listed.auto_paging_iter())
            return next((state for state in states if state.reference == order.reference), None)

    def get_checkout(self, identity: str) -> CheckoutState:
        """Return a session with its payment."""
        with _asking():
            return _checkout(self._client.v1.checkout.sessions.retrieve(identity, {"expand": ["payment_intent"]}))

    def charge_card(self, order: TopUpOrder, *, key: str, card: str) -> PaymentState:
        """Charge a saved card, its owner being away."""
        with _asking():
            made = self._client.v1.payment_intents.create(
                {
                    "amount": order.amount_cents,
                    "currency": order.currency,
                    "customer": order.customer,
                    "payment_method": card,
                    "off_session": True,
                    "confirm": True,
                    "description": order.description,
                    "metadata": {_TOP_UP: str(order.reference)},
                },
                {"idempotency_key": key},
            )
        return _payment(made)

    def find_payment(self, order: TopUpOrder) -> PaymentState | None:
        """Return the payment of an order."""
        with _asking():
            listed = self._client.v1.payment_intents.list({"customer": order.customer, "created": _since(order), "limit": _PAGE})
            states = map(_payment, listed.auto_paging_iter())
            return next((state for state in states if state.reference == order.reference), None)

    def get_payment(self, identity: str) -> PaymentState:
        """Return a payment."""
        with _asking():
            return _payment(self._client.v1.payment_intents.retrieve(identity))

    def cancel_payment(self, identity: str, *, key: str) -> PaymentState:
        """Cancel a payment; where that cannot be, return how it ended."""
        try:
            with _asking():
                return _payment(self._client.v1.payment_intents.cancel(identity, {}, {"idempotency_key": key}))
        except ProviderRefused:
            state = self.get_payment(identity)
            if state.status not in {"succeeded", "canceled"}:
                raise
            return state

    # ------------------------------------------------------------ Refunds and disputes

    def create_refund(self, *, key: str, payment: str, amount_cents: int, reference: UUID) -> RefundState:
        """Give a payment back, in part or in full."""
        with _asking():
            made = self._client.v1.refunds.create(
                {"payment_intent": payment, "amount": amount_cents, "metadata": {_REFUND: str(reference)}}, {"idempotency_key": key}
            )
        return _refund(made)

    def find_refund(self, *, payment: str, reference: UUID) -> RefundState | None:
        """Return the refund made for a reference, if any."""
        with _asking():
            listed = self._client.v1.refunds.list({"payment_intent": payment, "limit": _PAGE})
            states = map(_refund, listed.auto_paging_iter())
            return next((state for state in states if state.reference == reference), None)

    def get_refund(self, identity: str) -> RefundState:
        """Return a refund."""
        with _asking():
            return _refund(self._client.v1.refunds.retrieve(identity))

    def refunds_of_charge(self, charge: str) -> Sequence[RefundState]:
        """Return all refunds of a charge."""
        with _asking():
            return [_refund(one) for one in self._client.v1.refunds.list({"charge": charge, "limit": _PAGE}).data]

    def get_dispute(self, identity: str) -> DisputeState:
        """Return a dispute."""
        with _asking():
            found = self._client.v1.disputes.retrieve(identity)
        return DisputeState(
            id=found.id, status=found.status, amount_cents=found.amount, payment=_identity(found.payment_intent) or "", reason=found.reason
        )

    def _errors(self) -> AbstractContextManager[None]:
        return _asking()

    # ------------------------------------------------------------ Events

    def read_webhook(self, body: bytes, signature: str) -> ProviderEvent:
        """Return the event in a webhook signed with any of the secrets; signatures older than 300 s are refused."""
        fault: Exception | None = None
        for secret in self._webhook_secrets:
            try:
                if _is_thin(body):
                    return thin_event(self._client.parse_event_notification(body, signature, secret), body=body.decode())
                return _event(self._client.construct_event(body, signature, secret))
            except (ValueError, KeyError, TypeError, AttributeError, stripe.SignatureVerificationError) as error:
                fault = error
        raise WebhookForged from fault

    def events_since(self, moment: datetime) -> Iterator[ProviderEvent]:
        """Yield events, the newest first. Stripe keeps them for 30 days."""
        with _asking():
            listed = self._client.v1.events.list({"created": {"gte": int(moment.timestamp())}, "limit": _PAGE})
            for event in listed.auto_paging_iter():
                yield _event(event)


@contextmanager
def _asking() -> Iterator[None]:
    """Turn the library's errors into ours: what is not known, and what was refused."""
    try:
        yield
    except stripe.CardError as error:
        payment = getattr(error.error, "payment_intent", None)
        raise CardRefused(reason=error.code or "card_declined", payment=_identity(payment) or "") from error
    except (stripe.APIConnectionError, stripe.RateLimitError) as error:
        raise ProviderUnavailable(type(error).__name__) from error
    except stripe.APIError as error:
        # A 500 is kept under the idempotency key: the same key would answer it again for a day.
        raise ProviderUnavailable(type(error).__name__, key_is_spent=(error.http_status or 500) >= 500) from error
    except stripe.StripeError as error:
        if error.http_status in {409, 429}:
            raise ProviderUnavailable(type(error).__name__) from error
        raise ProviderRefused(reason=error.code or type(error).__name__, said=str(error.user_message or "")[:300]) from error


# ---------------------------------------------------------------- Their objects as our states


def _identity(thing: Any) -> str | None:
    """Return an id, whether the object was expanded or not."""
    return thing if thing is None or isinstance(thing, str) else str(thing.id)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _since(order: TopUpOrder) -> Any:
    """Return the filter of a list that holds what was made for an order."""
    return {"gte": int(order.created_at.timestamp()) - _SLACK_S}


def _customer(made: stripe.Customer) -> CustomerState:
    chosen = made.invoice_settings.default_payment_method if made.invoice_settings else None
    return CustomerState(id=made.id, default_card=_identity(chosen), reference=reference_in(made.metadata, _ACCOUNT))


def _card(method: stripe.PaymentMethod) -> CardState:
    card = method.card
    return CardState(
        id=method.id,
        customer=_identity(method.customer),
        brand=card.brand if card else method.type,
        last4=(card.last4 if card else "") or "",
        exp_month=card.exp_month if card else 12,
        exp_year=card.exp_year if card else 9999,
        created_at=_moment(method.created),
    )


def _payment(made: stripe.PaymentIntent) -> PaymentState:
    error = made.last_payment_error
    return PaymentState(
        id=made.id,
        status=made.status,
        amount_cents=made.amount,
        received_cents=made.amount_received or 0,
        currency=made.currency,
        reference=reference_in(made.metadata, _TOP_UP),
        failure=(error.code or "card_declined") if error else "",
        customer=made.customer if isinstance(made.customer, str) else made.customer.id if made.customer else "",
    )


def _checkout(session: stripe.checkout.Session) -> CheckoutState:
    intent = session.payment_intent
    return CheckoutState(
        id=session.id,
        url=session.url or "",
        status=session.status or "open",
        is_paid=session.payment_status == "paid",
        reference=reference_in(session.metadata, _TOP_UP),
        payment=_payment(intent) if intent is not None and not isinstance(intent, str) else None,
    )


def _refund(made: stripe.Refund) -> RefundState:
    return RefundState(
        id=made.id,
        status=made.status or "pending",
        amount_cents=made.amount,
        payment=_identity(made.payment_intent) or "",
        reference=reference_in(made.metadata, _REFUND),
    )


def _is_thin(body: bytes) -> bool:
    """Whether a body, not yet to be believed, is a thin event's: the library has a parser for each kind."""
    try:
        event = json.loads(body)
    except ValueError:
        return False
    return isinstance(event, dict) and event.get("object") == "v2.core.event"


def _event(event: stripe.Event) -> ProviderEvent:
    thing = event.data.object
    return ProviderEvent(
        id=event.id,
        type=event.type,
        object_id=str(getattr(thing, "id", "") or ""),
        created_at=_moment(event.created),
        livemode=bool(event.livemode),
        account=str(getattr(event, "account", None) or ""),
        body=str(event),
    )
