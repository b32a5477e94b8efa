"""Checkout sessions and portal sessions of the fake; their pages are in `pages.py`."""

import secrets
import time
from typing import Final

from billing.providers.fake import payments, refunds
from billing.providers.fake.errors import ApiError
from billing.providers.fake.store import Obj
from billing.providers.fake.world import World

_DAY_S: Final = 86_400


def create_session(world: World, params: Obj) -> Obj:
    """POST /v1/checkout/sessions, for mode "payment"."""
    if params.get("mode") != "payment":
        message = "FAKE: only mode=payment is there."
        raise ApiError(message, param="mode")
    lines = params.get("line_items") or []
    if not lines:
        message = "You must specify at least one of: line_items."
        raise ApiError(message, param="line_items", code="parameter_missing")
    if not params.get("success_url"):
        message = "You must provide `success_url`."
        raise ApiError(message, param="success_url", code="parameter_missing")
    if customer := params.get("customer"):
        world.store.get("customer", customer, param="customer")
    _check_collection(params)
    total, currency = _sum_up(lines)
    more = params.get("payment_intent_data") or {}
    fields = {
        "amount_subtotal": total,
        "amount_total": total,
        "billing_address_collection": params.get("billing_address_collection"),
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "currency": currency,
        "customer": customer,
        "expires_at": params.get("expires_at", int(time.time()) + _DAY_S),
        "metadata": params.get("metadata") or {},
        "mode": "payment",
        "payment_intent": None,  # Made when somebody pays.
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "status": "open",
        "success_url": params["success_url"],
        "url": None,
        "_intent_metadata": more.get("metadata") or {},
        "_keeps_address": (params.get("customer_update") or {}).get("address") == "auto",
        "_asks_tax_id": (params.get("tax_id_collection") or {}).get("enabled", False),
        "_saves_card": more.get("setup_future_usage") == "off_session",
        "_says": lines[0].get("price_data", {}).get("product_data", {}).get("name", ""),
    }
    session = world.store.add("checkout.session", "cs_test", fields)
    session["url"] = f"{world.base_url}/pay/{session['id']}"
    return world.store.save(session)


def _check_collection(params: Obj) -> None:
    """Refuse to collect what could not be kept."""
    update = params.get("customer_update") or {}
    if update and not params.get("customer"):
        message = "`customer_update` can only be used with `customer`."
        raise ApiError(message, param="customer_update")
    if (params.get("tax_id_collection") or {}).get("enabled") and params.get("customer") and update.get("name") != "auto":
        message = "Tax ID collection requires updating business name on the customer: set `customer_update[name]` to 'auto'."
        raise ApiError(message, param="customer_update")


def _sum_up(lines: list[Obj]) -> tuple[int, str]:
    total, currencies = 0, set()
    for index, line in enumerate(lines):
        price = line.get("price_data")
        if price is None or "unit_amount" not in price:
            message = "FAKE: line items need price_data[unit_amount]."
            raise ApiError(message, param=f"line_items[{index}][price_data]", code="parameter_missing")
        total += price["unit_amount"] * line.get("quantity", 1)
        currencies.add(price["currency"].lower())
    if len(currencies) != 1:
        message = "The line items must all have the same currency."
        raise ApiError(message, param="line_items")
    return total, currencies.pop()


def get_session(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/checkout/sessions/{id}."""
    return world.store.get("checkout.session", identity)


def list_sessions(world: World, params: Obj) -> Obj:
    """GET /v1/checkout/sessions."""
    asked = {name: params[name] for name in ("customer", "payment_intent", "status") if name in params}
    found = world.store.all(
        "checkout.session", lambda one: all(one[name] == value for name, value in asked.items()) and payments.is_since(one, params)
    )
    return world.store.page(found, params, "/v1/checkout/sessions")


def expire_session(world: World, _params: Obj, identity: str) -> Obj:
    """POST /v1/checkout/sessions/{id}/expire."""
    session = world.store.get("checkout.session", identity)
    if session["status"] != "open":
        message = "Only Checkout Sessions with a status in [`open`] can be expired."
        raise ApiError(message)
    session.update(status="expired", url=None)
    world.store.save(session)
    world.emit("checkout.session.expired", session)
    return session


# ---------------------------------------------------------------- What people do on the page


def pay_by_card(world: World, session: Obj, last4: str) -> Obj:
    """Pay a session with a card; return the session, complete.

    Raises:
        ApiError: 402, the card was refused; the session stays open.
    """
    intent = _intent_of(world, session)
    customer = session["customer"] if session["_saves_card"] else None
    if payments.CARDS[last4][0] != "ok":
        payments.fail(world, intent, payments.add_card(world, last4, customer=None), payments.CARDS[last4][0])
    method = payments.add_card(world, last4, customer=customer)
    charge = payments.confirm(world, intent, method, off_session=False)
    _complete(world, session, status="paid")
    if last4 == payments.DISPUTED:
        refunds.open_dispute(world, charge)
    return session


def fail_authentication(world: World, session: Obj) -> None:
    """Fail 3-D Secure.

    Raises:
        ApiError: always, 402; the session stays open.
    """
    method = payments.add_card(world, "3155", customer=None)
    payments.fail(world, _intent_of(world, session), method, "payment_intent_authentication_failure")


def pay_by_debit(world: World, session: Obj, *, succeeds: bool) -> Obj:
    """Pay a session by bank debit: it is complete at once, and paid, or not, later."""
    intent = _intent_of(world, session)
    intent["status"] = "processing"
    world.store.save(intent)
    world.emit("payment_intent.processing", intent)
    _complete(world, session, status="unpaid")
    world.due_later("succeed" if succeeds else "fail", session["id"])
    return session


def settle_due(world: World, *, now: float) -> None:
    """Have the bank debits that are due by then succeed or fail; in seconds since 1970."""
    for later in world.store.all("_later", lambda one: one["_due"] <= now):
        session = world.store.get("checkout.session", later["_of"])
        later["_due"] = 1e12
        world.store.save(later)
        if later["_what"] == "succeed":
            intent = world.store.get("payment_intent", session["payment_intent"])
            payments.confirm(world, intent, payments.add_card(world, "4242", customer=None), off_session=False)
            session["payment_status"] = "paid"
            world.store.save(session)
            world.emit("checkout.session.async_payment_succeeded", session)
        else:
            intent = world.store.get("payment_intent", session["payment_intent"])
            intent["status"] = "requires_payment_method"
            world.store.save(intent)
            world.emit("payment_intent.payment_failed", intent)
            world.emit("checkout.session.async_payment_failed", session)


def _intent_of(world: World, session: Obj) -> Obj:
    if session["status"] != "open":
        message = f"This Checkout Session is {session['status']}."
        raise ApiError(message)
    if session["payment_intent"]:
        return world.store.get("payment_intent", session["payment_intent"])
    intent = payments.new_intent(
        world,
        amount=session["amount_total"],
        currency=session["currency"],
        customer=session["customer"],
        metadata=session["_intent_metadata"],
        setup_future_usage="off_session" if session["_saves_card"] else None,
    )
    session["payment_intent"] = intent["id"]
    world.store.save(session)
    return intent


def _complete(world: World, session: Obj, *, status: str) -> None:
    session.update(status="complete", payment_status=status, url=None)
    world.store.save(session)
    world.emit("checkout.session.completed", session)


# ---------------------------------------------------------------- The customer portal


def create_portal_session(world: World, params: Obj) -> Obj:
    """POST /v1/billing_portal/sessions."""
    if not params.get("customer"):
        message = "Missing required param: customer."
        raise ApiError(message, param="customer", code="parameter_missing")
    world.store.get("customer", params["customer"], param="customer")
    fields = {
        "configuration": "bpc_fake",
        "customer": params["customer"],
        "flow": None,
        "locale": None,
        "on_behalf_of": None,
        "return_url": params.get("return_url"),
        "url": f"{world.base_url}/portal/{secrets.token_urlsafe(24)}",
    }
    return world.store.add("billing_portal.session", "bps", fields)
