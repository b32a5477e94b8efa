"""The fake's hosted invoice page, and the dashboard's part of invoices for whoever plays Stripe's clock."""

from collections.abc import Mapping
from html import escape
from typing import Final

from billing.providers.fake import invoices, payments
from billing.providers.fake.errors import ApiError
from billing.providers.fake.store import Obj
from billing.providers.fake.world import World

_BUTTONS: Final = (("overdue", "Make overdue"), ("void", "Void"), ("uncollectible", "Give up"))


def hosted(world: World, path: str, sent: Mapping[str, str]) -> tuple[int, str]:
    """Return the status and content of an invoice's page, whose address is a secret."""
    identity = path.partition("/")[0]
    invoice = world.store.find("invoice", identity)
    if invoice is None or not (invoice["hosted_invoice_url"] or "").endswith(f"/invoice/{path}"):
        return 404, "<p>There is no such invoice.</p>"
    refusal = ""
    if choice := sent.get("choice"):
        try:
            _pay(world, invoice, choice)
        except ApiError as error:
            refusal = f'<p class="error" role="alert">{escape(str(error))} Nothing was paid; try another way.</p>'
        invoice = world.store.get("invoice", identity)
    items = "".join(
        f"<tr><td>{escape(item['description'] or '')}</td><td>{_money(item['amount'], item['currency'])}</td></tr>"
        for item in reversed(world.store.all("invoiceitem", lambda one: one["invoice"] == identity))
    )
    table = f'<div class="scroll" tabindex="0"><table><tbody>{items}</tbody></table></div>'
    head = f"<p>{escape(invoice['number'] or '')}: {escape(invoice['description'] or '')}</p>{table}"
    total = f'<p class="total">{_money(invoice["amount_remaining"], invoice["currency"])}</p>'
    if invoice["status"] not in {"open", "uncollectible"}:
        return 200, f"{head}<p>This invoice is {escape(invoice['status'])}.</p>"
    form = (
        '<form method="post"><button class="main" name="choice" value="4242">Pay with a card that works<br>'
        '<span class="muted">4242 4242 4242 4242</span></button><button name="choice" value="0002">The card is declined<br>'
        '<span class="muted">4000 0000 0000 0002</span></button></form>'
    )
    return 402 if refusal else 200, f"{head}{total}{refusal}{form}"


def _pay(world: World, invoice: Obj, last4: str) -> None:
    if last4 not in payments.CARDS:
        message = "There is no such way to pay."
        raise ApiError(message)
    if invoice["status"] not in {"open", "uncollectible"}:
        message = f"This invoice is {invoice['status']}."
        raise ApiError(message)
    invoices.charge(world, invoice, payments.add_card(world, last4, customer=None), off_session=False)


def dashboard_parts(world: World) -> Mapping[str, str]:
    """Return the rows of the dashboard's table by its title."""
    return {"Invoices": "".join(_row(invoice) for invoice in world.store.all("invoice")[:50])}


def play(world: World, sent: Mapping[str, str]) -> None:
    """Do what a button of the dashboard says."""
    if invoice := sent.get("overdue"):
        invoices.make_overdue(world, world.store.get("invoice", invoice))
    if invoice := sent.get("void"):
        invoices.void(world, {}, invoice)
    if invoice := sent.get("uncollectible"):
        invoices.mark_uncollectible(world, {}, invoice)


def _row(invoice: Obj) -> str:
    buttons = "".join(
        f'<td><form method="post"><button class="small" name="{name}" value="{invoice["id"]}">{label}</button></form></td>'
        for name, label in _BUTTONS
        if invoice["status"] == "open"
    )
    url = invoice["hosted_invoice_url"]
    name = f'<a href="{escape(url)}">{escape(invoice["number"])}</a>' if url else invoice["id"]
    return f"<tr><td>{name}</td><td>{_money(invoice['total'], invoice['currency'])}</td><td>{invoice['status']}</td>{buttons}</tr>"


def _money(cents: int, currency: str) -> str:
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100:,}.{abs(cents) % 100:02d} {currency.upper()}"
