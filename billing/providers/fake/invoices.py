"""Invoices, invoice items and credit notes of the fake; their page is in `invoice_pages.py`."""

import secrets
import time
from typing import Final

from billing.providers.fake import payments, refunds
from billing.providers.fake.errors import ApiError
from billing.providers.fake.store import Obj
from billing.providers.fake.world import World

_DAY_S: Final = 86_400


def create_invoice(world: World, params: Obj) -> Obj:
    """POST /v1/invoices: a draft."""
    if not params.get("customer"):
        message = "You must provide one of: customer."
        raise ApiError(message, param="customer", code="parameter_missing")
    world.store.get("customer", params["customer"], param="customer")
    method = params.get("collection_method", "charge_automatically")
    days = params.get("days_until_due")
    if method == "send_invoice" and days is None and "due_date" not in params:
        message = "If invoice collection method is 'send_invoice', you must specify either 'due_date' or 'days_until_due'."
        raise ApiError(message, param="days_until_due")
    if method == "charge_automatically" and days is not None:
        message = "You can only specify 'days_until_due' if collection method is 'send_invoice'."
        raise ApiError(message, param="days_until_due")
    due = params.get("due_date") or (int(time.time()) + days * _DAY_S if days is not None else None)
    fields: Obj = {
        "amount_due": 0,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": params.get("auto_advance", False),
        "collection_method": method,
        "currency": params.get("currency", "usd").lower(),
        "customer": params["customer"],
        "default_payment_method": params.get("default_payment_method"),
        "description": params.get("description"),
        "due_date": due,
        "hosted_invoice_url": None,
        "metadata": params.get("metadata") or {},
        "number": None,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "status": "draft",
        "subtotal": 0,
        "total": 0,
        "_intent": None,
    }
    invoice = world.store.add("invoice", "in", fields)
    world.emit("invoice.created", invoice)
    return invoice


def get_invoice(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/invoices/{id}."""
    return world.store.get("invoice", identity)


def delete_invoice(world: World, _params: Obj, identity: str) -> Obj:
    """DELETE /v1/invoices/{id}: of a draft."""
    invoice = _in(world, identity, "draft", words="You can only delete draft invoices.")
    world.store.remove(identity)
    for item in world.store.all("invoiceitem", lambda one: one["invoice"] == identity):
        world.store.remove(item["id"])
    world.emit("invoice.deleted", invoice)
    return {"id": identity, "object": "invoice", "deleted": True}


def list_invoices(world: World, params: Obj) -> Obj:
    """GET /v1/invoices."""
    asked = {name: params[name] for name in ("customer", "status", "collection_method") if name in params}
    found = world.store.all(
        "invoice", lambda one: all(one[name] == value for name, value in asked.items()) and payments.is_since(one, params)
    )
    return world.store.page(found, params, "/v1/invoices")


def create_item(world: World, params: Obj) -> Obj:
    """POST /v1/invoiceitems, for a draft and with an amount."""
    if not params.get("invoice") or "amount" not in params or not params.get("currency"):
        message = "FAKE: an invoice item needs invoice, amount and currency."
        raise ApiError(message, code="parameter_missing")
    invoice = _in(world, params["invoice"], "draft", param="invoice")
    if params["currency"].lower() != invoice["currency"]:
        message = "The currency of the invoice item must match the invoice's currency."
        raise ApiError(message, param="currency")
    if params.get("customer", invoice["customer"]) != invoice["customer"]:
        message = "The invoice belongs to another customer."
        raise ApiError(message, param="customer")
    fields = {
        "amount": params["amount"],
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "date": int(time.time()),
        "description": params.get("description"),
        "discountable": True,
        "invoice": invoice["id"],
        "metadata": params.get("metadata") or {},
        "period": params.get("period") or {"start": int(time.time()), "end": int(time.time())},
        "proration": False,
        "quantity": 1,
        "tax_rates": [],
    }
    item = world.store.add("invoiceitem", "ii", fields)
    _sum_up(world, invoice)
    return item


def list_items(world: World, params: Obj) -> Obj:
    """GET /v1/invoiceitems."""
    asked = {name: params[name] for name in ("customer", "invoice") if name in params}
    found = world.store.all("invoiceitem", lambda one: all(one[name] == value for name, value in asked.items()))
    return world.store.page(found, params, "/v1/invoiceitems")


def _sum_up(world: World, invoice: Obj) -> None:
    total = sum(item["amount"] for item in world.store.all("invoiceitem", lambda one: one["invoice"] == invoice["id"]))
    invoice.update(subtotal=total, total=total, amount_due=max(0, total), amount_remaining=max(0, total))
    world.store.save(invoice)


def finalize(world: World, _params: Obj, identity: str) -> Obj:
    """POST /v1/invoices/{id}/finalize."""
    invoice = _in(world, identity, "draft", words="This invoice is already finalized, you can't re-finalize a non-draft invoice.")
    number = f"FAKE-{len(world.store.all('invoice')):04d}"
    invoice.update(status="open", number=number, hosted_invoice_url=f"{world.base_url}/invoice/{identity}/{secrets.token_urlsafe(12)}")
    if not invoice["amount_due"]:
        invoice["status"] = "paid"
    world.store.save(invoice)
    world.emit("invoice.finalized", invoice)
    if invoice["status"] == "paid":
        world.emit("invoice.paid", invoice)
    return invoice


def send(world: World, _params: Obj, identity: str) -> Obj:
    """POST /v1/invoices/{id}/send."""
    invoice = world.store.get("invoice", identity)
    if invoice["collection_method"] != "send_invoice":
        message = "You can only manually send an invoice if its collection method is 'send_invoice'."
        raise ApiError(message)
    if invoice["status"] != "open":
        message = f"Invoices that are {invoice['status']} cannot be sent."
        raise ApiError(message)
    world.emit("invoice.sent", invoice)
    return invoice


def pay(world: World, params: Obj, identity: str) -> Obj:
    """POST /v1/invoices/{id}/pay, with a saved card.

    Raises:
        ApiError: 402 where the card is declined; the invoice stays open.
    """
    invoice = _in(world, identity, "open", words="Invoice is already paid" if _status(world, identity) == "paid" else "")
    if not params.get("payment_method"):
        message = "There is no `default_payment_method` set on this Customer or Invoice."
        raise ApiError(message, code="invoice_no_payment_method")
    method = world.store.get("payment_method", params["payment_method"], param="payment_method")
    if method["customer"] != invoice["customer"]:
        message = "The payment method does not belong to the invoice's customer."
        raise ApiError(message, param="payment_method")
    invoice["attempt_count"] += 1
    invoice["attempted"] = True
    world.store.save(invoice)
    return charge(world, invoice, method, off_session=bool(params.get("off_session", True)))


def charge(world: World, invoice: Obj, method: Obj, *, off_session: bool) -> Obj:
    """Charge a card for an open invoice.

    Raises:
        ApiError: 402; the invoice stays open.
    """
    intent = world.store.find("payment_intent", invoice["_intent"] or "") or payments.new_intent(
        world, amount=invoice["amount_remaining"], currency=invoice["currency"], customer=invoice["customer"], metadata={}
    )
    if intent["amount"] != invoice["amount_remaining"]:
        intent["amount"] = invoice["amount_remaining"]
    invoice["_intent"] = intent["id"]
    world.store.save(invoice)
    try:
        payments.confirm(world, intent, method, off_session=off_session)
    except ApiError as refusal:
        owner_needed = refusal.error.get("code") == "authentication_required"
        world.emit("invoice.payment_failed", invoice)
        if owner_needed:
            world.emit("invoice.payment_action_required", invoice)
        raise
    invoice.update(status="paid", amount_paid=invoice["amount_remaining"], amount_remaining=0)
    world.store.save(invoice)
    world.emit("invoice.paid", invoice)
    world.emit("invoice.payment_succeeded", invoice)
    return invoice


def list_payments(world: World, params: Obj) -> Obj:
    """GET /v1/invoice_payments: one of each invoice that a card paid."""
    asked = (params.get("payment") or {}).get("payment_intent")
    paid = world.store.all("invoice", lambda one: one["amount_paid"] > 0 and asked in {None, one["_intent"]})
    found = [
        {
            "id": f"inpay_{invoice['id'].removeprefix('in_')}",
            "object": "invoice_payment",
            "amount_paid": invoice["amount_paid"],
            "amount_requested": invoice["amount_paid"],
            "created": invoice["created"],
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "livemode": False,
            "payment": {"type": "payment_intent", "payment_intent": invoice["_intent"]},
            "status": "paid",
        }
        for invoice in paid
        if params.get("invoice", invoice["id"]) == invoice["id"] and params.get("status", "paid") == "paid"
    ]
    return world.store.page(found, params, "/v1/invoice_payments")


def void(world: World, _params: Obj, identity: str) -> Obj:
    """POST /v1/invoices/{id}/void."""
    return _end(world, identity, "void", "invoice.voided", ("open", "uncollectible"))


def mark_uncollectible(world: World, _params: Obj, identity: str) -> Obj:
    """POST /v1/invoices/{id}/mark_uncollectible."""
    return _end(world, identity, "uncollectible", "invoice.marked_uncollectible", ("open",))


def make_overdue(world: World, invoice: Obj) -> Obj:
    """Have an open invoice's day pass."""
    invoice["due_date"] = int(time.time()) - 60
    world.store.save(invoice)
    world.emit("invoice.overdue", invoice)
    return invoice


def _end(world: World, identity: str, status: str, event: str, before: tuple[str, ...]) -> Obj:
    invoice = world.store.get("invoice", identity)
    if invoice["status"] not in before:
        message = f"You can only pass in {' or '.join(before)} invoices. This invoice is {invoice['status']}."
        raise ApiError(message, code="invoice_not_editable")
    invoice["status"] = status
    world.store.save(invoice)
    world.emit(event, invoice)
    return invoice


def _status(world: World, identity: str) -> str:
    return str(world.store.get("invoice", identity)["status"])


def _in(world: World, identity: str, status: str, *, param: str = "id", words: str = "") -> Obj:
    invoice = world.store.get("invoice", identity, param=param)
    if invoice["status"] != status:
        message = words or f"This invoice is {invoice['status']}, not {status}."
        raise ApiError(message, code="invoice_not_editable")
    return invoice


# ---------------------------------------------------------------- Credit notes


def create_credit_note(world: World, params: Obj) -> Obj:
    """POST /v1/credit_notes, of custom lines."""
    invoice = world.store.get("invoice", params["invoice"], param="invoice")
    if invoice["status"] not in {"open", "paid"}:
        message = "You can only create a credit note on an invoice that is open or paid."
        raise ApiError(message, param="invoice")
    total = sum(line.get("quantity", 1) * line.get("unit_amount", 0) for line in params.get("lines") or ()) or params.get("amount", 0)
    ways = {name: params.get(name, 0) for name in ("refund_amount", "credit_amount", "out_of_band_amount")}
    noted = invoice["pre_payment_credit_notes_amount"] + invoice["post_payment_credit_notes_amount"]
    if not 0 < total <= invoice["total"] - noted:
        message = f"The amount must be more than 0 and at most what is left of the invoice ({invoice['total'] - noted})."
        raise ApiError(message, param="amount")
    is_paid = invoice["status"] == "paid"
    if sum(ways.values()) != (total if is_paid else 0):
        message = "The sum of refund_amount, credit_amount and out_of_band_amount must equal what was paid of the credit note's amount."
        raise ApiError(message)
    refund = None
    if ways["refund_amount"]:
        refund = refunds.create_refund(world, {"payment_intent": invoice["_intent"], "amount": ways["refund_amount"]})["id"]
    fields = {
        "amount": total,
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "invoice": invoice["id"],
        "memo": params.get("memo"),
        "metadata": params.get("metadata") or {},
        "number": f"{invoice['number']}-CN",
        "out_of_band_amount": ways["out_of_band_amount"] or None,
        "refunds": [{"amount_refunded": ways["refund_amount"], "refund": refund}] if refund else [],
        "status": "issued",
        "subtotal": total,
        "total": total,
        "type": "post_payment" if is_paid else "pre_payment",
    }
    note = world.store.add("credit_note", "cn", fields)
    _lower(world, invoice, total, is_paid=is_paid)
    world.emit("credit_note.created", note)
    return note


def _lower(world: World, invoice: Obj, total: int, *, is_paid: bool) -> None:
    if is_paid:
        invoice["post_payment_credit_notes_amount"] += total
        world.store.save(invoice)
        return
    invoice["pre_payment_credit_notes_amount"] += total
    invoice["amount_due"] -= total
    invoice["amount_remaining"] -= total
    if not invoice["amount_remaining"]:
        invoice["status"] = "paid"
    world.store.save(invoice)
    if invoice["status"] == "paid":
        world.emit("invoice.paid", invoice)


def get_credit_note(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/credit_notes/{id}."""
    return world.store.get("credit_note", identity)


def list_credit_notes(world: World, params: Obj) -> Obj:
    """GET /v1/credit_notes."""
    asked = {name: params[name] for name in ("customer", "invoice") if name in params}
    found = world.store.all("credit_note", lambda one: all(one[name] == value for name, value in asked.items()))
    return world.store.page(found, params, "/v1/credit_notes")
