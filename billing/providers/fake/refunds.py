"""Refunds, disputes and events of the fake."""

import time
from typing import Final

from billing.providers.fake import payments
from billing.providers.fake.errors import ApiError
from billing.providers.fake.store import Obj
from billing.providers.fake.world import World

_WEEK_S: Final = 7 * 86_400


def create_refund(world: World, params: Obj) -> Obj:
    """POST /v1/refunds."""
    charge = _charge_of(world, params)
    left = charge["amount"] - charge["amount_refunded"]
    if left == 0:
        message = f"Charge {charge['id']} has already been refunded."
        raise ApiError(message, code="charge_already_refunded")
    if charge["disputed"]:
        message = f"Charge {charge['id']} has been charged back; cannot issue a refund."
        raise ApiError(message, code="charge_disputed")
    amount = params.get("amount", left)
    if not 0 < amount <= left:
        message = f"Refund amount (${amount / 100:.2f}) is greater than unrefunded amount on charge (${left / 100:.2f})"
        raise ApiError(message, param="amount")
    fields = {
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "currency": charge["currency"],
        "metadata": params.get("metadata") or {},
        "payment_intent": charge["payment_intent"],
        "reason": params.get("reason"),
        "receipt_number": None,
        "status": "succeeded",
    }
    refund = world.store.add("refund", "re", fields)
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    world.store.save(charge)
    world.emit("refund.created", refund)
    world.emit("charge.refunded", charge)
    return refund


def fail_refund(world: World, refund: Obj) -> Obj:
    """Have a refund come back: the customer's bank would not take it."""
    charge = world.store.get("charge", refund["charge"])
    charge["amount_refunded"] -= refund["amount"]
    charge["refunded"] = False
    world.store.save(charge)
    refund.update(status="failed", failure_reason="expired_or_canceled_card")
    world.store.save(refund)
    world.emit("refund.failed", refund)
    return refund


def _charge_of(world: World, params: Obj) -> Obj:
    if charge := params.get("charge"):
        return world.store.get("charge", charge, param="charge")
    if not params.get("payment_intent"):
        message = "One of the following params should be provided for this request: payment_intent or charge."
        raise ApiError(message)
    intent = world.store.get("payment_intent", params["payment_intent"], param="payment_intent")
    if intent["latest_charge"] is None:
        message = f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
        raise ApiError(message, param="payment_intent")
    return world.store.get("charge", intent["latest_charge"])


def get_refund(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/refunds/{id}."""
    return world.store.get("refund", identity)


def list_refunds(world: World, params: Obj) -> Obj:
    """GET /v1/refunds."""
    asked = {name: params[name] for name in ("charge", "payment_intent") if name in params}
    found = world.store.all("refund", lambda one: all(one[name] == value for name, value in asked.items()))
    return world.store.page(found, params, "/v1/refunds")


# ---------------------------------------------------------------- Disputes


def open_dispute(world: World, charge: Obj) -> Obj:
    """Have a customer's bank dispute a charge."""
    if charge["disputed"]:
        message = "This charge is disputed already."
        raise ApiError(message)
    fields = {
        "amount": charge["amount"] - charge["amount_refunded"],
        "balance_transactions": [],
        "charge": charge["id"],
        "currency": charge["currency"],
        "evidence_details": {"due_by": int(time.time()) + _WEEK_S, "has_evidence": False, "past_due": False, "submission_count": 0},
        "is_charge_refundable": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "reason": "fraudulent",
        "status": "needs_response",
    }
    dispute = world.store.add("dispute", "dp", fields)
    charge["disputed"] = True
    world.store.save(charge)
    world.emit("charge.dispute.created", dispute)
    return dispute


def close_dispute(world: World, dispute: Obj, *, won: bool) -> Obj:
    """Have the bank decide a dispute."""
    if dispute["status"] in {"won", "lost"}:
        message = "This dispute is closed."
        raise ApiError(message)
    dispute["status"] = "won" if won else "lost"
    world.store.save(dispute)
    world.emit("charge.dispute.closed", dispute)
    return dispute


def get_dispute(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/disputes/{id}."""
    return world.store.get("dispute", identity)


def list_disputes(world: World, params: Obj) -> Obj:
    """GET /v1/disputes."""
    asked = {name: params[name] for name in ("charge", "payment_intent") if name in params}
    found = world.store.all("dispute", lambda one: all(one[name] == value for name, value in asked.items()))
    return world.store.page(found, params, "/v1/disputes")


# ---------------------------------------------------------------- Events


def get_event(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/events/{id}."""
    return world.store.get("event", identity)


def list_events(world: World, params: Obj) -> Obj:
    """GET /v1/events."""
    kinds = params.get("types") or ([params["type"]] if "type" in params else None)
    # Of one's own account alone: a connected account's are asked for in its name.
    mine = params.get("_account")
    found = world.store.all(
        "event", lambda one: payments.is_since(one, params) and (kinds is None or one["type"] in kinds) and one.get("account") == mine
    )
    return world.store.page(found, params, "/v1/events")
