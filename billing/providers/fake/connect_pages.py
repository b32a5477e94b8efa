"""What the fake shows of connected accounts: the onboarding form, and the dashboard's part for whoever plays Stripe's staff and the bank."""

import time
from collections.abc import Mapping
from html import escape
from typing import Final

from billing.providers.fake import connect
from billing.providers.fake.markup import button, buttons, choice, money
from billing.providers.fake.store import Obj
from billing.providers.fake.world import World

_ACCOUNT_BUTTONS: Final = (
    ("complete", "Complete"),
    ("restrict", "Restrict"),
    ("bank", "Pay out to the bank"),
    ("bank_fails", "Bank refuses a payout"),
)


def onboard(world: World, token: str, sent: Mapping[str, str]) -> tuple[str, str]:
    """Return where the browser goes and what it shows instead, one of them empty: links work once, for some minutes."""
    link = connect.find_link(world, token)
    if link is None:
        return "", "<p>There is no such onboarding link.</p>"
    if link["_used"] or link["expires_at"] < time.time():
        return link["_refresh_url"], ""
    account = world.store.get("account", link["_account"])
    chosen = sent.get("choice")
    if chosen:
        connect.use_up(world, link)
        if chosen == "complete":
            connect.complete(world, account)
        elif chosen == "partly":
            connect.complete_partly(world, account)
        return link["_return_url"], ""
    name, due = escape(str(account["business_profile"]["name"])), escape(", ".join(account["requirements"]["currently_due"]) or "nothing")
    content = (
        f"<p>{name} ({escape(account['country'])}) wants to be paid out.</p><p class='muted'>Asked of its owner: {due}.</p>"
        '<form method="post"><button class="main" name="choice" value="complete">Complete: hand everything in</button>'
        f"{choice('partly', 'Complete, but a document is due', 'Restrict the account later on the dashboard')}"
        f"{choice('later', 'Come back later', 'nothing is handed in')}</form>"
    )
    return "", content


def dashboard_parts(world: World) -> Mapping[str, str]:
    """Return the rows of the dashboard's tables by their titles."""
    accounts = "".join(_account_row(account) for account in world.store.all("account")[:50])
    transfers = "".join(_transfer_row(transfer) for transfer in world.store.all("transfer")[:50])
    return {"Connected accounts": accounts, "Transfers": transfers}


def play(world: World, sent: Mapping[str, str]) -> None:
    """Do what a button of the dashboard says."""
    for name, change in (("complete", connect.complete), ("restrict", connect.restrict)):
        if account := sent.get(name):
            change(world, world.store.get("account", account))
    for name in ("bank", "bank_fails"):
        if account := sent.get(name):
            connect.pay_out(world, world.store.get("account", account), succeeds=name == "bank")
    if transfer := sent.get("reverse"):
        connect.create_reversal(world, {}, transfer)


def _account_row(account: Obj) -> str:
    state = "can be sent money" if account["capabilities"].get("transfers") == "active" else "cannot be sent money"
    held = ", ".join(money(cents, name) for name, cents in account["_balance"].items()) or "0"
    return f"<tr><td>{account['id']}</td><td>{escape(str(account['business_profile']['name']))}</td><td>{state}</td><td>{held}</td>{buttons(account['id'], _ACCOUNT_BUTTONS)}</tr>"


def _transfer_row(transfer: Obj) -> str:
    left = transfer["amount"] - transfer["amount_reversed"]
    deed = button("reverse", transfer["id"], "Reverse") if left else "<td>reversed</td>"
    amount = money(transfer["amount"], transfer["currency"])
    return f"<tr><td>{transfer['id']}</td><td>{amount}</td><td>{transfer['destination']}</td>{deed}</tr>"
