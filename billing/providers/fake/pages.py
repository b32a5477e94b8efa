"""The fake's hosted pages: Checkout, the customer portal, and a dashboard for whoever plays the bank.

Every page says that it is a fake and that no money moves.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from html import escape
from typing import Final
from urllib.parse import parse_qs

from billing.providers.fake import checkout, connect_pages, invoice_pages, payments, refunds, taxes
from billing.providers.fake.errors import ApiError
from billing.providers.fake.markup import buttons, choice, money, table
from billing.providers.fake.store import Obj
from billing.providers.fake.world import Fault, World

Answer = tuple[int, dict[str, str], bytes]

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8885; --accent: #4f46e5; }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; background: Canvas; color: CanvasText; }
.fake { position: sticky; top: 0; background: #b91c1c; color: #fff; padding: .6rem 1rem; text-align: center; font-weight: 700; }
main { width: min(100% - 2rem, 34rem); margin: 1.5rem auto 3rem; display: grid; gap: 1rem; }
main.wide { width: min(100% - 2rem, 70rem); }
h1 { font-size: 1.25rem; margin: 0; } h2 { font-size: 1rem; margin: .5rem 0 0; } p { margin: 0; }
.total { font-size: 2.25rem; font-weight: 700; font-variant-numeric: tabular-nums; }
form { display: grid; gap: .5rem; margin: 0; }
button { font: inherit; padding: .6rem .9rem; border: 1px solid var(--line); border-radius: .5rem; background: Field; color: FieldText; text-align: left; cursor: pointer; }
button.main { background: var(--accent); border-color: var(--accent); color: #fff; font-weight: 600; }
button.small { padding: .2rem .6rem; } button:focus-visible, a:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.error { border: 1px solid #b91c1c; border-radius: .5rem; padding: .6rem .9rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .875rem; }
td, th { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
td form { display: inline-flex; } .muted { opacity: .75; font-size: .875rem; } a { color: inherit; }
"""
_CHOICES: Final = (
    ("4242", "Pay with a card that works", "4242 4242 4242 4242", "main"),
    ("3155", "Pay; later payments without you need authentication", "4000 0025 0000 3155", ""),
    ("0341", "Pay; later payments without you are declined", "4000 0000 0000 0341", ""),
    ("0259", "Pay; then your bank disputes it", "4000 0000 0000 0259", ""),
    ("0002", "The card is declined", "4000 0000 0000 0002", ""),
    ("3ds", "3-D Secure fails", "4000 0000 0000 3220", ""),
    ("debit", "Bank debit that arrives some seconds later", "", ""),
    ("debit_fails", "Bank debit that fails some seconds later", "", ""),
)


def answer(world: World, method: str, path: str, body: str) -> Answer:
    """Answer a browser."""
    sent = {name: values[-1] for name, values in parse_qs(body).items()} if method == "POST" and not path.startswith("/_fake") else {}
    first, _, rest = path.strip("/").partition("/")
    pages: Mapping[str, Callable[[], Answer]] = {
        "": lambda: _dashboard(world, sent),
        "pay": lambda: _checkout(world, rest, sent),
        "portal": lambda: _portal(world, rest, sent),
        "onboard": lambda: _onboard(world, rest, sent),
        "invoice": lambda: _invoice(world, rest, sent),
        "_fake": lambda: _set_faults(world, body),
    }
    try:
        page = pages.get(first)
        return page() if page else _page("Not found", "<p>There is no such page.</p>", status=404)
    except ApiError as error:
        return _page("Refused", f'<p class="error" role="alert">{escape(str(error))}</p>', status=error.status)


def _page(title: str, content: str, *, status: int = 200, wide: bool = False) -> Answer:
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>FAKE Stripe: {escape(title)}</title><link rel='icon' href='data:,'><style>{_STYLE}</style></head><body>"
        f'<div class="fake" role="note">FAKE STRIPE: no money moves, and no card is asked for.</div>'
        f'<main class="{"wide" if wide else ""}"><h1>{escape(title)}</h1>{content}</main></body></html>'
    )
    return status, {"content-type": "text/html; charset=utf-8", "cache-control": "no-store"}, text.encode()


def _redirect(to: str) -> Answer:
    return 303, {"location": to, "content-type": "text/plain"}, b""


# ---------------------------------------------------------------- Checkout


def _checkout(world: World, identity: str, sent: Mapping[str, str]) -> Answer:
    session = world.store.get("checkout.session", identity)
    refusal = ""
    if chosen := sent.get("choice"):
        try:
            _pay(world, session, chosen)
            if session["_keeps_address"]:
                _live(world, session["customer"], sent)
            return _redirect(session["success_url"].replace("{CHECKOUT_SESSION_ID}", identity))
        except ApiError as error:
            refusal = f'<p class="error" role="alert">{escape(str(error))} Nothing was paid; try another way.</p>'
    if session["status"] != "open":
        return _page("Checkout", f"<p>This session is {escape(session['status'])}.</p>")
    ways = "".join(choice(name, label, number or "no card", kind) for name, label, number, kind in _CHOICES)
    back = session["cancel_url"]
    cancel = f'<p><a href="{escape(back)}">Back without paying</a></p>' if back else ""
    asked = _address_fields() if session["_keeps_address"] else ""
    said = escape(session["_says"])
    total = money(session["amount_total"], session["currency"])
    content = f'<p>{said}</p><p class="total">{total}</p>{refusal}<form method="post">{asked}{ways}</form>{cancel}'
    return _page("Checkout", content, status=402 if refusal else 200)


def _address_fields() -> str:
    """Return where a customer says where they live."""
    options = "".join(f'<option value="{place}">{place}</option>' for place in (*sorted(taxes.RATES), "US-OR"))
    return (
        f'<label>Country <select name="country">{options}</select></label>'
        '<label>Tax id, if you have one <input name="tax_id" maxlength="40" autocomplete="off"></label>'
    )


def _live(world: World, customer_id: str, sent: Mapping[str, str]) -> None:
    """Keep where a customer says that they live."""
    if place := sent.get("country"):
        taxes.set_address(world, world.store.get("customer", customer_id), place, tax_id=sent.get("tax_id", ""))


def _pay(world: World, session: Obj, choice: str) -> None:
    if choice == "3ds":
        checkout.fail_authentication(world, session)
    elif choice in {"debit", "debit_fails"}:
        checkout.pay_by_debit(world, session, succeeds=choice == "debit")
    elif choice in payments.CARDS:
        checkout.pay_by_card(world, session, choice)
    else:
        message = "There is no such way to pay."
        raise ApiError(message)


# ---------------------------------------------------------------- Customer portal


def _portal(world: World, token: str, sent: Mapping[str, str]) -> Answer:
    sessions = world.store.all("billing_portal.session", lambda one: one["url"].endswith(f"/portal/{token}"))
    if not sessions or not token:
        return _page("Not found", "<p>There is no such portal session.</p>", status=404)
    session = sessions[0]
    customer = world.store.get("customer", session["customer"])
    if "add" in sent:
        payments.add_card(world, "4242", customer=customer["id"])
    if card := sent.get("detach"):
        payments.detach_payment_method(world, {}, card)
    if card := sent.get("default"):
        customer = payments.update_customer(world, {"invoice_settings": {"default_payment_method": card}}, customer["id"])
    _live(world, customer["id"], sent)
    customer = world.store.get("customer", customer["id"])
    chosen = customer["invoice_settings"]["default_payment_method"]
    rows = "".join(
        f"<tr><td>{one['card']['brand']} …{one['card']['last4']}{' (default)' if one['id'] == chosen else ''}</td>"
        f"{buttons(one['id'], (('default', 'Make default'), ('detach', 'Remove')))}</tr>"
        for one in world.store.all("payment_method", lambda one: one["customer"] == customer["id"])
    )
    cards = table(rows) or "<p>No saved card.</p>"
    add = '<form method="post"><button name="add" value="1">Add a card (4242)</button></form>'
    lives = (customer["address"] or {}).get("country") or "not known"
    add += f'<h2>Address</h2><p>Country: {escape(lives)}</p><form method="post">{_address_fields()}<button>Save the address</button></form>'
    back = f'<p><a href="{escape(session["return_url"] or "/")}">Return to the site</a></p>'
    return _page("Customer portal", f"<p>{escape(customer['name'] or customer['id'])}</p>{cards}{add}{back}")


# ---------------------------------------------------------------- Onboarding of connected accounts


def _onboard(world: World, token: str, sent: Mapping[str, str]) -> Answer:
    to, content = connect_pages.onboard(world, token, sent)
    return _redirect(to) if to else _page("Onboarding", content)


def _invoice(world: World, path: str, sent: Mapping[str, str]) -> Answer:
    status, content = invoice_pages.hosted(world, path, sent)
    return _page("Invoice", content, status=status)


# ---------------------------------------------------------------- Dashboard: playing the bank


def _dashboard(world: World, sent: Mapping[str, str]) -> Answer:
    if sent:
        _play(world, sent)
        return _redirect("/")
    charges = "".join(_charge_row(charge) for charge in world.store.all("charge")[:50])
    disputes = "".join(_dispute_row(dispute) for dispute in world.store.all("dispute")[:50])
    waiting = world.store.waiting_deliveries()
    events = "".join(
        f"<tr><td>{escape(event['type'])}</td><td>{escape(str(event['data']['object'].get('id')))}</td></tr>"
        for event in world.store.all("event")[:20]
    )
    none = "<p class='muted'>None yet.</p>"
    parts = {**invoice_pages.dashboard_parts(world), **connect_pages.dashboard_parts(world)}
    connected = "".join(f"<h2>{title}</h2>{table(rows) or none}" for title, rows in parts.items())
    content = (
        f"<p>What the bank and Stripe's staff would do, done by you. Webhooks waiting: {waiting}.</p>"
        f"<h2>Payments</h2>{table(charges) or none}<h2>Disputes</h2>{table(disputes) or none}"
        f"{connected}<h2>Latest events</h2>{table(events) or none}"
    )
    return _page("Dashboard", content, wide=True)


def _charge_row(charge: Obj) -> str:
    state = "disputed" if charge["disputed"] else "refunded" if charge["refunded"] else charge["status"]
    is_whole = not charge["disputed"] and not charge["refunded"]
    deeds = buttons(charge["id"], (("dispute", "Dispute"), ("refund", "Refund"))) if is_whole else ""
    return f"<tr><td>{charge['id']}</td><td>{money(charge['amount'], charge['currency'])}</td><td>{state}</td>{deeds}</tr>"


def _dispute_row(dispute: Obj) -> str:
    is_open = dispute["status"] not in {"won", "lost"}
    deeds = buttons(dispute["id"], (("won", "Merchant wins"), ("lost", "Merchant loses"))) if is_open else ""
    return f"<tr><td>{dispute['id']}</td><td>{money(dispute['amount'], dispute['currency'])}</td><td>{dispute['status']}</td>{deeds}</tr>"


def _play(world: World, sent: Mapping[str, str]) -> None:
    connect_pages.play(world, sent)
    invoice_pages.play(world, sent)
    if charge := sent.get("dispute"):
        refunds.open_dispute(world, world.store.get("charge", charge))
    if charge := sent.get("refund"):
        refunds.create_refund(world, {"charge": charge})
    for outcome in ("won", "lost"):
        if dispute := sent.get(outcome):
            refunds.close_dispute(world, world.store.get("dispute", dispute), won=outcome == "won")


# ---------------------------------------------------------------- Faults, by HTTP


def _set_faults(world: World, body: str) -> Answer:
    """POST /_fake/faults with {"next": [{"kind", "match", "times", "seconds"}], "duplicates": 2, ...}."""
    asked = json.loads(body or "{}")
    for fault in asked.pop("next", ()):
        world.faults.waiting.append(Fault(**fault))
    settable = {field.name for field in fields(world.faults)} - {"waiting", "random", "kinds", "taken"}
    for name, value in asked.items():
        if name not in settable:
            message = f"There is no fault {name[:40]!r}; there are next, {', '.join(sorted(settable))}."
            raise ApiError(message)
        setattr(world.faults, name, value)
    return 200, {"content-type": "application/json"}, b"{}"
