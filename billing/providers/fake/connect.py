"""Connected accounts, transfers and their reversals, and payouts to banks, of the fake.

As Stripe does, it sends only what the platform has (payments less refunds, disputes and transfers), only to
accounts that may be sent money, and takes back only what an account still holds.
"""

import secrets
import time
from typing import Any, Final

from billing.providers.fake import payments
from billing.providers.fake.errors import ApiError
from billing.providers.fake.store import Obj
from billing.providers.fake.world import World

# Seconds that an onboarding link works. Stripe says "a few minutes".
_LINK_S: Final = 300
_COUNTRIES: Final = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "IE", "CA", "AU", "SG", "HK", "JP")
_DAY_S: Final = 86_400
# What an account's owner hands in on the form.
_ASKED: Final = (
    "business_profile.url",
    "external_account",
    "individual.dob.day",
    "individual.verification.document",
    "tos_acceptance.date",
)
_DOCUMENT: Final = "individual.verification.document"


# ---------------------------------------------------------------- Accounts


def create_account(world: World, params: Obj) -> Obj:
    """POST /v1/accounts, for Express accounts."""
    if params.get("type") != "express":
        message = "FAKE: only type=express is there."
        raise ApiError(message, param="type")
    country = params.get("country", "US").upper()
    if country not in _COUNTRIES:
        message = f"Country '{country}' is not supported: FAKE: one of {', '.join(_COUNTRIES)}."
        raise ApiError(message, param="country", code="country_unsupported")
    asked = params.get("capabilities") or {}
    fields: Obj = {
        "business_profile": {"mcc": None, "name": None, "url": None, **(params.get("business_profile") or {})},
        "business_type": params.get("business_type"),
        "capabilities": {name: "inactive" for name, one in asked.items() if one.get("requested")},
        "charges_enabled": False,
        "country": country,
        "default_currency": params.get("default_currency", "usd"),
        "details_submitted": False,
        "email": params.get("email"),
        "metadata": params.get("metadata") or {},
        "payouts_enabled": False,
        "requirements": _requirements(_ASKED, disabled="requirements.past_due"),
        "type": "express",
        "_balance": {},
    }
    return world.store.add("account", "acct", fields)


def _requirements(due: tuple[str, ...], *, disabled: str | None) -> Obj:
    return {
        "alternatives": [],
        "current_deadline": None,
        "currently_due": list(due),
        "disabled_reason": disabled,
        "errors": [],
        "eventually_due": list(due),
        "past_due": list(due) if disabled else [],
        "pending_verification": [],
    }


def get_account(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/accounts/{id}."""
    return world.store.get("account", identity)


def list_accounts(world: World, params: Obj) -> Obj:
    """GET /v1/accounts."""
    return world.store.page(world.store.all("account", lambda one: payments.is_since(one, params)), params, "/v1/accounts")


def create_account_link(world: World, params: Obj) -> Obj:
    """POST /v1/account_links, for onboarding."""
    account = world.store.get("account", params["account"], param="account")
    if params["type"] != "account_onboarding":
        message = "You cannot create an account_update link for an account with a Stripe-hosted Dashboard."
        raise ApiError(message, param="type")
    for name in ("return_url", "refresh_url"):
        if not params.get(name):
            message = f"Missing required param: {name}."
            raise ApiError(message, param=name, code="parameter_missing")
    fields = {
        "expires_at": int(time.time()) + _LINK_S,
        "url": f"{world.base_url}/onboard/{secrets.token_urlsafe(24)}",
        "_account": account["id"],
        "_return_url": params["return_url"],
        "_refresh_url": params["refresh_url"],
        "_used": False,
    }
    return _without_id(world.store.add("account_link", "link", fields))


def _without_id(link: Obj) -> Obj:
    return {name: value for name, value in link.items() if name != "id"}


def find_link(world: World, token: str) -> Obj | None:
    """Return the onboarding link of an address, if there is one."""
    links = world.store.all("account_link", lambda one: one["url"].endswith(f"/onboard/{token}"))
    return links[0] if token and links else None


def use_up(world: World, link: Obj) -> None:
    """Have a link lead back to the site from now on: each works once."""
    link["_used"] = True
    world.store.save(link)


# ---------------------------------------------------------------- What an account's owner and Stripe's staff do


def complete(world: World, account: Obj) -> Obj:
    """Hand in everything that is asked: the account may be sent money, and its bank too."""
    return _change(world, account, due=(), is_on=True, disabled=None)


def complete_partly(world: World, account: Obj) -> Obj:
    """Hand in all but a document: money may be sent, until the document is past due (`restrict`)."""
    return _change(world, account, due=(_DOCUMENT,), is_on=True, disabled=None)


def restrict(world: World, account: Obj) -> Obj:
    """Stop an account: a document was not handed in in time."""
    return _change(world, account, due=(_DOCUMENT,), is_on=False, disabled="requirements.past_due")


def _change(world: World, account: Obj, *, due: tuple[str, ...], is_on: bool, disabled: str | None) -> Obj:
    account.update(
        capabilities=dict.fromkeys(account["capabilities"], "active" if is_on else "inactive"),
        payouts_enabled=is_on,
        details_submitted=True,
        requirements=_requirements(due, disabled=disabled),
    )
    world.store.save(account)
    world.emit("account.updated", account, account=account["id"])
    return account


# ---------------------------------------------------------------- Transfers


def platform_cents(world: World, currency: str) -> int:
    """Return what the platform has: payments, less what was given back, disputed away and sent to accounts."""
    ours = [charge for charge in world.store.all("charge") if charge["currency"] == currency and charge["paid"]]
    disputes = [one for one in world.store.all("dispute") if one["currency"] == currency and one["status"] != "won"]
    transfers = [one for one in world.store.all("transfer") if one["currency"] == currency]
    paid_in = sum(int(charge["amount"]) - int(charge["amount_refunded"]) for charge in ours)
    taken = sum(int(one["amount"]) for one in disputes)
    return paid_in - taken - sum(int(one["amount"]) - int(one["amount_reversed"]) for one in transfers)


def create_transfer(world: World, params: Obj) -> Obj:
    """POST /v1/transfers."""
    amount, currency = params.get("amount", 0), params["currency"].lower()
    if amount < 1:
        message = "Invalid positive integer"
        raise ApiError(message, param="amount")
    account = world.store.get("account", params["destination"], param="destination")
    if account["capabilities"].get("transfers") != "active":
        message = "Your destination account needs to have at least one of the following capabilities enabled: transfers, crypto_transfers, legacy_payments"
        raise ApiError(message, code="insufficient_capabilities_for_transfer")
    if amount > platform_cents(world, currency):
        message = "You have insufficient available funds in your Stripe account."
        raise ApiError(message, code="balance_insufficient")
    fields = {
        "amount": amount,
        "amount_reversed": 0,
        "balance_transaction": f"txn_{secrets.token_hex(12)}",
        "currency": currency,
        "description": params.get("description"),
        "destination": account["id"],
        "destination_payment": f"py_{secrets.token_hex(12)}",
        "metadata": params.get("metadata") or {},
        "reversals": {},
        "reversed": False,
        "source_transaction": None,
        "source_type": params.get("source_type", "card"),
        "transfer_group": params.get("transfer_group"),
    }
    transfer = world.store.add("transfer", "tr", fields)
    transfer["reversals"] = _no_reversals(transfer["id"])
    world.store.save(transfer)
    _hold(world, account, currency, amount)
    world.emit("transfer.created", transfer)
    return transfer


def _no_reversals(transfer: str) -> Obj:
    return {"object": "list", "data": [], "has_more": False, "url": f"/v1/transfers/{transfer}/reversals"}


def _hold(world: World, account: Obj, currency: str, amount: int) -> None:
    account["_balance"][currency] = account["_balance"].get(currency, 0) + amount
    world.store.save(account)


def get_transfer(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/transfers/{id}."""
    return world.store.get("transfer", identity)


def list_transfers(world: World, params: Obj) -> Obj:
    """GET /v1/transfers."""
    asked = {name: params[name] for name in ("destination", "transfer_group") if name in params}
    found = world.store.all(
        "transfer", lambda one: payments.is_since(one, params) and all(one[name] == value for name, value in asked.items())
    )
    return world.store.page(found, params, "/v1/transfers")


def create_reversal(world: World, params: Obj, transfer_id: str) -> Obj:
    """POST /v1/transfers/{id}/reversals: never more than the account still holds."""
    transfer = world.store.get("transfer", transfer_id)
    left = transfer["amount"] - transfer["amount_reversed"]
    amount = params.get("amount", left)
    if not 0 < amount <= left:
        message = f"Reversal amount (${amount / 100:.2f}) is greater than unreversed amount on transfer (${left / 100:.2f})"
        raise ApiError(message, param="amount")
    account = world.store.get("account", transfer["destination"])
    if account["_balance"].get(transfer["currency"], 0) < amount:
        message = "Insufficient funds: the connected account's balance is lower than the reversal."
        raise ApiError(message, code="balance_insufficient")
    fields: dict[str, Any] = {
        "amount": amount,
        "balance_transaction": f"txn_{secrets.token_hex(12)}",
        "currency": transfer["currency"],
        "destination_payment_refund": None,
        "metadata": params.get("metadata") or {},
        "source_refund": None,
        "transfer": transfer_id,
    }
    reversal = world.store.add("transfer_reversal", "trr", fields)
    transfer["amount_reversed"] += amount
    transfer["reversed"] = transfer["amount_reversed"] == transfer["amount"]
    transfer["reversals"]["data"].insert(0, reversal)
    transfer["reversals"].update(data=transfer["reversals"]["data"][:10], has_more=len(_reversals_of(world, transfer_id)) > 10)
    world.store.save(transfer)
    _hold(world, account, transfer["currency"], -amount)
    world.emit("transfer.reversed", transfer)
    return reversal


def _reversals_of(world: World, transfer_id: str) -> list[Obj]:
    return world.store.all("transfer_reversal", lambda one: one["transfer"] == transfer_id)


def list_reversals(world: World, params: Obj, transfer_id: str) -> Obj:
    """GET /v1/transfers/{id}/reversals."""
    world.store.get("transfer", transfer_id)
    return world.store.page(_reversals_of(world, transfer_id), params, f"/v1/transfers/{transfer_id}/reversals")


# ---------------------------------------------------------------- From the accounts to their banks


def pay_out(world: World, account: Obj, *, succeeds: bool) -> Obj | None:
    """Send what an account holds to its bank, as Stripe does daily; None where it holds nothing."""
    currency, amount = next(((name, cents) for name, cents in account["_balance"].items() if cents > 0), ("", 0))
    if not amount:
        return None
    if not account["payouts_enabled"]:
        message = "This account cannot be paid out: its payouts are not enabled."
        raise ApiError(message)
    fields: Obj = {
        "amount": amount,
        "arrival_date": int(time.time()) + 2 * _DAY_S,
        "automatic": True,
        "balance_transaction": f"txn_{secrets.token_hex(12)}",
        "currency": currency,
        "description": "STRIPE PAYOUT",
        "destination": f"ba_{secrets.token_hex(12)}",
        "failure_code": None if succeeds else "account_closed",
        "failure_message": None if succeeds else "The bank account has been closed",
        "metadata": {},
        "method": "standard",
        "source_type": "card",
        "status": "paid" if succeeds else "failed",
        "type": "bank_account",
        "_account": account["id"],
    }
    payout = world.store.add("payout", "po", fields)
    if succeeds:
        _hold(world, account, currency, -amount)
    world.emit("payout.paid" if succeeds else "payout.failed", payout, account=account["id"])
    return payout


def get_payout(world: World, params: Obj, identity: str) -> Obj:
    """GET /v1/payouts/{id}: an account's own, asked for in its name (the header Stripe-Account)."""
    payout = world.store.get("payout", identity)
    if payout["_account"] != params.get("_account"):
        message = f"No such payout: '{identity}'"
        raise ApiError(message, status=404, code="resource_missing", param="payout")
    return payout
