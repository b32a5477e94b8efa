"""Stripe Tax of the fake: a few real rates by country, taxes within or on top of an amount, and what was recorded of them."""

import time
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from billing.providers.fake.errors import ApiError
from billing.providers.fake.store import Obj
from billing.providers.fake.world import World

# Standard rates of 2026 on digital services, by country or, in the United States, state. Others: no tax is collected.
RATES: Final[dict[str, tuple[str, str]]] = {
    "AT": ("vat", "20"),
    "CH": ("vat", "8.1"),
    "DE": ("vat", "19"),
    "ES": ("vat", "21"),
    "FR": ("vat", "20"),
    "GB": ("vat", "20"),
    "IE": ("vat", "23"),
    "IT": ("vat", "22"),
    "JP": ("jct", "10"),
    "NL": ("vat", "21"),
    "SG": ("gst", "9"),
    "US-PA": ("sales_tax", "6"),
    "US-WA": ("sales_tax", "6.5"),
}
# The seller is registered in each of them, and lives here: other businesses of the Union pay the tax themselves.
SELLER: Final = "DE"
_UNION: Final = frozenset({"AT", "DE", "ES", "FR", "IE", "IT", "NL"})
_DAY_S: Final = 86_400
_TAX_DATE_S: Final = 31 * _DAY_S


def set_address(world: World, customer: Obj, country: str, *, tax_id: str = "") -> Obj:
    """Give a customer an address, as Checkout and the portal do: "DE", or "US-WA"; and a tax id, if there is one."""
    nation, _, state = country.partition("-")
    customer["address"] = {"city": None, "country": nation, "line1": None, "line2": None, "postal_code": None, "state": state or None}
    if tax_id:
        customer["_tax_ids"] = [{"type": "eu_vat", "value": tax_id}]
    world.store.save(customer)
    world.emit("customer.updated", customer)
    return customer


def calculate(world: World, params: Obj) -> Obj:
    """POST /v1/tax/calculations, for a customer."""
    if not params.get("customer"):
        message = "FAKE: a calculation needs a customer."
        raise ApiError(message, param="customer", code="parameter_missing")
    if abs(params.get("tax_date", time.time()) - time.time()) > _TAX_DATE_S:
        message = "The tax date must be within 31 days of today."
        raise ApiError(message, param="tax_date")
    customer = world.store.get("customer", params["customer"], param="customer")
    address = customer["address"] or {}
    if not address.get("country"):
        message = "The customer's location isn't recognized. Set a valid customer address in order to automatically calculate tax."
        raise ApiError(message, code="customer_tax_location_invalid", param="customer")
    total = inclusive = exclusive = 0
    breakdown: dict[bool, Obj] = {}
    for line in params["line_items"]:
        if line["amount"] <= 0:
            message = "Amounts must be positive."
            raise ApiError(message, param="line_items")
        within = line.get("tax_behavior", "exclusive") == "inclusive"
        part = _tax(line["amount"], customer, within=within)
        total += line["amount"] + (0 if within else part["amount"])
        inclusive, exclusive = inclusive + within * part["amount"], exclusive + (not within) * part["amount"]
        before = breakdown.setdefault(within, {**part, "amount": 0, "taxable_amount": 0})
        before["amount"] += part["amount"]
        before["taxable_amount"] += part["taxable_amount"]
    fields = {
        "amount_total": total,
        "currency": params["currency"],
        "customer": customer["id"],
        "customer_details": {
            "address": address,
            "address_source": "billing",
            "ip_address": None,
            "tax_ids": customer.get("_tax_ids", []),
            "taxability_override": "none",
        },
        "expires_at": int(time.time()) + 90 * _DAY_S,
        "ship_from_details": None,
        "shipping_cost": None,
        "tax_amount_exclusive": exclusive,
        "tax_amount_inclusive": inclusive,
        "tax_breakdown": list(breakdown.values()),
        "tax_date": params.get("tax_date", int(time.time())),
    }
    return world.store.add("tax.calculation", "taxcalc", fields)


def _tax(amount: int, customer: Obj, *, within: bool) -> Obj:
    address = customer["address"]
    place = f"{address['country']}-{address['state']}" if address["country"] == "US" else address["country"]
    kind, percent = RATES.get(place, ("", "0"))
    is_business_abroad = bool(customer.get("_tax_ids")) and place in _UNION and place != SELLER
    reason = "reverse_charge" if is_business_abroad else "standard_rated" if kind else "not_collecting"
    rate = Decimal(percent) / 100 if reason == "standard_rated" else Decimal(0)
    net = (Decimal(amount) / (1 + rate)).quantize(Decimal(1), ROUND_HALF_EVEN) if within else Decimal(amount)
    tax = amount - int(net) if within else int((net * rate).quantize(Decimal(1), ROUND_HALF_EVEN))
    details: dict[str, Any] = {
        "country": address["country"],
        "flat_amount": None,
        "percentage_decimal": percent if reason == "standard_rated" else "0.0",
        "rate_type": "percentage" if kind else None,
        "state": address["state"],
        "tax_type": kind or None,
    }
    return {
        "amount": tax,
        "inclusive": within,
        "tax_rate_details": details,
        "taxability_reason": reason,
        "taxable_amount": int(net) if reason == "standard_rated" else 0,
    }


def record(world: World, params: Obj) -> Obj:
    """POST /v1/tax/transactions/create_from_calculation: once per reference."""
    calculation = world.store.get("tax.calculation", params["calculation"], param="calculation")
    _check_reference(world, params["reference"])
    fields = {
        "currency": calculation["currency"],
        "customer": calculation["customer"],
        "customer_details": calculation["customer_details"],
        "metadata": params.get("metadata") or {},
        "posted_at": int(time.time()),
        "reference": params["reference"],
        "reversal": None,
        "ship_from_details": None,
        "shipping_cost": None,
        "tax_date": calculation["tax_date"],
        "type": "transaction",
        "_total": calculation["amount_total"],
        "_tax": calculation["tax_amount_inclusive"] + calculation["tax_amount_exclusive"],
    }
    return world.store.add("tax.transaction", "tax", fields)


def reverse(world: World, params: Obj) -> Obj:
    """POST /v1/tax/transactions/create_reversal: in full, or a flat amount."""
    original = world.store.get("tax.transaction", params["original_transaction"], param="original_transaction")
    _check_reference(world, params["reference"])
    before = world.store.all("tax.transaction", lambda one: (one["reversal"] or {}).get("original_transaction") == original["id"])
    left = original["_total"] + sum(one["_total"] for one in before)
    amount = -left if params["mode"] == "full" else params.get("flat_amount")
    if amount is None or not -left <= amount < 0:
        message = f"The flat amount must be negative, and at most what is left of the transaction ({left})."
        raise ApiError(message, param="flat_amount")
    taken = -sum(one["_tax"] for one in before)
    reversed_ = original["_total"] - left - amount
    share = Decimal(original["_tax"] * reversed_) / original["_total"]
    fields = {
        **{name: value for name, value in original.items() if name not in {"id", "object", "created", "livemode"}},
        "metadata": params.get("metadata") or {},
        "posted_at": int(time.time()),
        "reference": params["reference"],
        "reversal": {"original_transaction": original["id"]},
        "type": "reversal",
        "_total": amount,
        "_tax": taken - int(share.quantize(Decimal(1), ROUND_HALF_EVEN)),
    }
    return world.store.add("tax.transaction", "tax", fields)


def get_transaction(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/tax/transactions/{id}."""
    return world.store.get("tax.transaction", identity)


def _check_reference(world: World, reference: str) -> None:
    if world.store.all("tax.transaction", lambda one: one["reference"] == reference):
        message = f"A transaction with the reference '{reference}' already exists. References must be unique."
        raise ApiError(message, param="reference", code="resource_already_exists")
