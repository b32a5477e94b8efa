"""The fake's hosted invoice page, and the dashboard's part of invoices for whoever plays Stripe's clock."""

from collections.abc import Mapping
from html import escape
from typing import Final

from billing.providers.fake import invoices, payments
from billing.providers.fake.errors import ApiError
from billing.providers.fake.markup import buttons, choice, money, table
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
    if chosen := sent.get("choice"):
        try:
            _pay(world, invoice, chosen)
        except ApiError as error:
            refusal = f'<p class="error" role="alert">{escape(str(error))} Nothing was paid; try another way.</p>'
        invoice = world.store.get("invoice", identity)
    items = "".join(
        f"<tr><td>{escape(item['description'] or '')}</td><td>{money(item['amount'], item['currency'])}</td></tr>"
        for item in reversed(world.store.all("invoiceitem", lambda one: one["invoice"] == identity))
    )
    head = f"<p>{escape(invoice['number'] or '')}: {escape(invoice['description'] or '')}</p>{table(items)}"
    total = f'<p class="total">{money(invoice["amount_remaining"], invoice["currency"])}</p>'
    if invoice["status"] not in {"open", "uncollectible"}:
        return 200, f"{head}<p>This invoice is {escape(invoice['status'])}.</p>"
    ways = choice("4242", "Pay with a card that works", "4242 4242 4242 4242", "main")
    ways += choice("0002", "The card is declined", "4000 0000 0000 0002")
    return 402 if refusal else 200, f'{head}{total}{refusal}<form method="post">{ways}</form>'


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
    deeds = buttons(invoice["id"], _BUTTONS) if invoice["status"] == "open" else ""
    url = invoice["hosted_invoice_url"]
    name = f'<a href="{escape(url)}">{escape(invoice["number"])}</a>' if url else invoice["id"]
    return f"<tr><td>{name}</td><td>{money(invoice['total'], invoice['currency'])}</td><td>{invoice['status']}</td>{deeds}</tr>"
