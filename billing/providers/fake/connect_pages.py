"""What the fake shows of connected accounts: the onboarding form, and the dashboard's part for whoever plays Stripe's staff and the bank."""

import time
from collections.abc import Mapping
from html import escape
from typing import Final

from billing.providers.fake import connect
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
    choice = sent.get("choice")
    if choice:
        connect.use_up(world, link)
        if choice == "complete":
            connect.complete(world, account)
        elif choice == "partly":
            connect.complete_partly(world, account)
        return link["_return_url"], ""
    name, due = escape(str(account["business_profile"]["name"])), escape(", ".join(account["requirements"]["currently_due"]) or "nothing")
    content = (
        f"<p>{name} ({escape(account['country'])}) wants to be paid out.</p><p class='muted'>Asked of its owner: {due}.</p>"
        '<form method="post"><button class="main" name="choice" value="complete">Complete: hand everything in</button>'
        '<button name="choice" value="partly">Complete, but a document is due<br><span class="muted">Restrict the account later on the dashboard</span></button>'
        '<button name="choice" value="later">Come back later<br><span class="muted">nothing is handed in</span></button></form>'
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
    held = ", ".join(f"{cents / 100:,.2f} {name.upper()}" for name, cents in account["_balance"].items()) or "0"
    return f"<tr><td>{account['id']}</td><td>{escape(str(account['business_profile']['name']))}</td><td>{state}</td><td>{held}</td>{_buttons(account['id'], _ACCOUNT_BUTTONS)}</tr>"


def _transfer_row(transfer: Obj) -> str:
    left = transfer["amount"] - transfer["amount_reversed"]
    buttons = _buttons(transfer["id"], (("reverse", "Reverse"),)) if left else "<td>reversed</td>"
    amount = f"{transfer['amount'] / 100:,.2f} {transfer['currency'].upper()}"
    return f"<tr><td>{transfer['id']}</td><td>{amount}</td><td>{transfer['destination']}</td>{buttons}</tr>"


def _buttons(identity: str, buttons: tuple[tuple[str, str], ...]) -> str:
    return "".join(
        f'<td><form method="post"><button class="small" name="{name}" value="{identity}">{label}</button></form></td>'
        for name, label in buttons
    )
