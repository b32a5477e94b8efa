"""Customers, cards and payments of the fake."""

import re
import time
from typing import Any, Final

from billing.providers.fake.errors import ApiError
from billing.providers.fake.store import Obj
from billing.providers.fake.world import World

# Behaviours of a card: Stripe's test numbers by what happens at once, and in a later off-session payment.
CARDS: Final = {
    "4242": ("ok", "ok"),
    "3155": ("ok", "authentication_required"),
    "0341": ("ok", "card_declined"),
    "0259": ("ok", "ok"),  # Disputed once it is paid.
    "0002": ("card_declined", "card_declined"),
}
DISPUTED: Final = "0259"


# ---------------------------------------------------------------- Customers


def create_customer(world: World, params: Obj) -> Obj:
    """POST /v1/customers."""
    fields: Obj = {
        "address": None,
        "balance": 0,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": params.get("description"),
        "email": params.get("email"),
        "invoice_settings": {"custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None},
        "metadata": params.get("metadata") or {},
        "name": params.get("name"),
        "phone": None,
        "preferred_locales": [],
        "tax_exempt": "none",
    }
    customer = world.store.add("customer", "cus", fields)
    world.emit("customer.created", customer)
    return customer


def get_customer(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/customers/{id}."""
    return world.store.get("customer", identity)


def list_customers(world: World, params: Obj) -> Obj:
    """GET /v1/customers."""
    email = params.get("email")
    return world.store.page(world.store.all("customer", lambda one: email in {None, one["email"]}), params, "/v1/customers")


def search_customers(world: World, params: Obj) -> Obj:
    """GET /v1/customers/search, for one value of the metadata."""
    match = re.fullmatch(r"metadata\['([^']+)'\]:'([^']*)'", params["query"])
    if match is None:
        message = "FAKE: only metadata['name']:'value' can be searched."
        raise ApiError(message, param="query")
    found = world.store.all("customer", lambda one: one["metadata"].get(match[1]) == match[2])
    return {
        **world.store.page(found, {"limit": params.get("limit", 10)}, "/v1/customers/search"),
        "object": "search_result",
        "next_page": None,
    }


def update_customer(world: World, params: Obj, identity: str) -> Obj:
    """POST /v1/customers/{id}: name, e-mail, metadata, default card."""
    customer = world.store.get("customer", identity)
    customer.update({name: params[name] for name in ("name", "email", "description") if name in params})
    customer["metadata"].update(params.get("metadata") or {})
    if card := (params.get("invoice_settings") or {}).get("default_payment_method"):
        _own_card(world, card, identity)
        customer["invoice_settings"]["default_payment_method"] = card
    world.emit("customer.updated", customer)
    return world.store.save(customer)


# ---------------------------------------------------------------- Cards


def add_card(world: World, last4: str, *, customer: str | None) -> Obj:
    """Keep a card as a payment method; with a customer it is attached to it."""
    card = {
        "brand": "visa",
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "display_brand": "visa",
        "exp_month": 12,
        "exp_year": time.gmtime().tm_year + 3,
        "fingerprint": f"FAKE{last4}",
        "funding": "credit",
        "last4": last4,
    }
    billing = {"address": None, "email": None, "name": None, "phone": None, "tax_id": None}
    fields = {
        "allow_redisplay": "unspecified",
        "billing_details": billing,
        "card": card,
        "customer": customer,
        "metadata": {},
        "type": "card",
    }
    method = world.store.add("payment_method", "pm", fields)
    if customer:
        world.emit("payment_method.attached", method)
    return method


def get_payment_method(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/payment_methods/{id}."""
    return world.store.get("payment_method", identity)


def list_customer_cards(world: World, params: Obj, customer: str) -> Obj:
    """GET /v1/customers/{id}/payment_methods."""
    world.store.get("customer", customer)
    mine = world.store.all("payment_method", lambda one: one["customer"] == customer)
    return world.store.page(mine, params, f"/v1/customers/{customer}/payment_methods")


def detach_payment_method(world: World, _params: Obj, identity: str) -> Obj:
    """POST /v1/payment_methods/{id}/detach."""
    method = world.store.get("payment_method", identity)
    if method["customer"] is None:
        message = "The payment method you provided is not attached to a customer so detachment is impossible."
        raise ApiError(message)
    customer = world.store.get("customer", method["customer"])
    if customer["invoice_settings"]["default_payment_method"] == identity:
        customer["invoice_settings"]["default_payment_method"] = None
        world.store.save(customer)
    method["customer"] = None
    world.emit("payment_method.detached", method)
    return world.store.save(method)


def _own_card(world: World, identity: str, customer: str) -> Obj:
    method = world.store.get("payment_method", identity, param="payment_method")
    if method["customer"] != customer:
        message = "The customer does not have a payment method with the ID " + identity + "."
        raise ApiError(message, param="payment_method")
    return method


# ---------------------------------------------------------------- Payment intents


def new_intent(world: World, *, amount: int, currency: str, customer: str | None, metadata: Obj, **more: Any) -> Obj:
    """Keep a payment intent that has not been paid."""
    fields = {
        "amount": amount,
        "amount_capturable": 0,
        "amount_received": 0,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic",
        "confirmation_method": "automatic",
        "currency": currency,
        "customer": customer,
        "description": None,
        "last_payment_error": None,
        "latest_charge": None,
        "metadata": metadata,
        "next_action": None,
        "payment_method": None,
        "payment_method_types": ["card"],
        "setup_future_usage": None,
        "status": "requires_payment_method",
        "transfer_group": None,
        **more,
    }
    intent = world.store.add("payment_intent", "pi", fields)
    world.emit("payment_intent.created", intent)
    return intent


def create_intent(world: World, params: Obj) -> Obj:
    """POST /v1/payment_intents: with `confirm` it is charged at once.

    Raises:
        ApiError: 402 where the card is declined or its owner has to be there.
    """
    if params["amount"] < 50:
        message = "Amount must be at least $0.50 usd"
        raise ApiError(message, code="amount_too_small", param="amount")
    if customer := params.get("customer"):
        world.store.get("customer", customer, param="customer")
    if params.get("off_session") and not params.get("confirm"):
        message = "You can only set `off_session` if `confirm` is true."
        raise ApiError(message, param="off_session")
    intent = new_intent(
        world,
        amount=params["amount"],
        currency=params["currency"].lower(),
        customer=customer,
        metadata=params.get("metadata") or {},
        description=params.get("description"),
        transfer_group=params.get("transfer_group"),
    )
    if params.get("confirm"):
        if not params.get("payment_method"):
            message = "You cannot confirm this PaymentIntent because it's missing a payment method."
            raise ApiError(message, code="payment_intent_unexpected_state")
        method = _own_card(world, params["payment_method"], customer or "")
        confirm(world, intent, method, off_session=bool(params.get("off_session")))
    return intent


def confirm(world: World, intent: Obj, method: Obj, *, off_session: bool) -> Obj:
    """Charge a card for an intent; return the charge.

    Raises:
        ApiError: 402; the intent waits for another card.
    """
    outcome = CARDS[method["card"]["last4"]][1 if off_session else 0]
    if outcome != "ok":
        fail(world, intent, method, outcome)
    charge = _add_charge(world, intent, method)
    intent.update(status="succeeded", amount_received=intent["amount"], latest_charge=charge["id"], payment_method=method["id"])
    world.store.save(intent)
    world.emit("charge.succeeded", charge)
    world.emit("payment_intent.succeeded", intent)
    return charge


def fail(world: World, intent: Obj, method: Obj, outcome: str) -> None:
    """Refuse a payment as the card's bank would.

    Raises:
        ApiError: always.
    """
    words = {
        "authentication_required": "Your card was declined. This transaction requires authentication.",
        "card_declined": "Your card was declined.",
        "payment_intent_authentication_failure": "The provided PaymentMethod has failed authentication.",
    }
    more: Obj = {"decline_code": "generic_decline" if outcome == "card_declined" else outcome}
    if outcome == "payment_intent_authentication_failure":
        more = {}
    error = {"type": "card_error", "code": outcome, "message": words[outcome], **more}
    intent.update(status="requires_payment_method", last_payment_error=error)
    world.store.save(intent)
    world.emit("payment_intent.payment_failed", intent)
    raise ApiError(words[outcome], status=402, code=outcome, **more, payment_intent=intent, payment_method=method)


def _add_charge(world: World, intent: Obj, method: Obj) -> Obj:
    fields = {
        "amount": intent["amount"],
        "amount_captured": intent["amount"],
        "amount_refunded": 0,
        "captured": True,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_code": None,
        "failure_message": None,
        "metadata": intent["metadata"],
        "paid": True,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "refunded": False,
        "status": "succeeded",
        "transfer_group": intent["transfer_group"],
    }
    return world.store.add("charge", "ch", fields)


def get_intent(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/payment_intents/{id}."""
    return world.store.get("payment_intent", identity)


def list_intents(world: World, params: Obj) -> Obj:
    """GET /v1/payment_intents."""
    customer = params.get("customer")
    found = world.store.all("payment_intent", lambda one: customer in {None, one["customer"]} and is_since(one, params))
    return world.store.page(found, params, "/v1/payment_intents")


def is_since(thing: Obj, params: Obj) -> bool:
    """Whether a list's `created` filter lets an object through."""
    created = params.get("created", 0)
    return bool(thing["created"] >= (created.get("gte", created.get("gt", 0)) if isinstance(created, dict) else created))


def cancel_intent(world: World, params: Obj, identity: str) -> Obj:
    """POST /v1/payment_intents/{id}/cancel."""
    intent = world.store.get("payment_intent", identity)
    if intent["status"] in {"succeeded", "canceled"}:
        message = f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}."
        raise ApiError(message, code="payment_intent_unexpected_state")
    reason = params.get("cancellation_reason")
    intent.update(status="canceled", canceled_at=int(time.time()), cancellation_reason=reason)
    world.store.save(intent)
    world.emit("payment_intent.canceled", intent)
    return intent


def get_charge(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/charges/{id}."""
    return world.store.get("charge", identity)
