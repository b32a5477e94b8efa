"""Promise 11: usage events and ledger entries are append-only; an edit made behind our back is detected.

The database refuses every change and deletion in every table of facts. Who gets around that, with the rights of
the database's owner and the triggers off, is found out by the books, the re-derived invoices or the receipts.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import Model

from billing.books import check_books
from billing.ids import uuid7
from billing.invoicing import CLOSE_AFTER, close_period
from billing.models import Account, Budget, Price, UsageEvent
from billing.posting import post_usage
from billing.receipt_audit import check_receipts
from billing.receipting import WriteReceiptKey
from billing.receipts import Signer
from billing.refunding import refund_event
from billing.rerating import rederive_invoices
from billing.settling import Settlement, WriteSettlements
from marketplace.proving.acts import Recorder, make_price, open_rich_account
from marketplace.proving.findings import Untried, require
from marketplace.proving.tampering import behind_our_back

_MONTH: Final = datetime(2025, 1, 1, tzinfo=UTC)
# Of these the promise speaks by name; whichever other table refuses changes is tried, too.
NAMED: Final = {"billing_usageevent", "billing_ledgerentry", "billing_ledgertransaction", "billing_receipt", "billing_invoiceline"}
# What an edit could gain somebody: other units, money, model, key or time; another account; a call, receipt or entry less.
EDITS: Final = {
    "a call's charge": "UPDATE billing_usageevent SET charge_nanos = charge_nanos + 1 WHERE seq = {seq}",
    "a call's units": "UPDATE billing_usageevent SET units = units + 1 WHERE seq = {seq}",
    "two calls' units, so that sums agree": "UPDATE billing_usageevent SET units = CASE WHEN seq = {seq} THEN units + 1 ELSE units - 1 END "
    "WHERE seq IN ({seq}, {other})",
    "a call's model": "UPDATE billing_usageevent SET sku = 'house/other@1' WHERE seq = {seq}",
    "a call's key": "UPDATE billing_usageevent SET source = 'key-2' WHERE seq = {seq}",
    "a call's hour and minute": "UPDATE billing_usageevent SET occurred_at = (SELECT occurred_at FROM billing_usageevent WHERE seq = {other}) "
    "WHERE seq = {seq}",
    "a call's mode": "UPDATE billing_usageevent SET cached = NOT cached WHERE seq = {seq}",
    "a call with its receipt": "DELETE FROM billing_receipt WHERE seq = {seq}; DELETE FROM billing_usageevent WHERE seq = {seq}",
    "a receipt's number": "UPDATE billing_receipt SET seq = 99 WHERE seq = {seq}",
    "a receipt's input": "UPDATE billing_receipt SET input_hash = hash WHERE seq = {seq}",
    "a receipt's model": "UPDATE billing_receipt SET model_digest = '" + "e" * 64 + "' WHERE seq = {seq}",
    "a receipt's hash": "UPDATE billing_receipt SET hash = previous WHERE seq = {seq}",
    "a receipt's signature": "UPDATE billing_receipt SET signature = path WHERE seq = {seq}",
    "a receipt": "DELETE FROM billing_receipt WHERE seq = {seq}",
    "the last receipts": "DELETE FROM billing_receipt WHERE seq > 5",
    "all receipts": "DELETE FROM billing_receipt",
    "a refund": "DELETE FROM billing_usagerefund",
    "a refund's amount": "UPDATE billing_usagerefund SET charge_nanos = charge_nanos - 1",
    "an entry's amount": "UPDATE billing_ledgerentry SET amount_nanos = amount_nanos + 1 WHERE amount_nanos > 0",
    "an entry": "DELETE FROM billing_ledgerentry WHERE amount_nanos < 0",
    "a grant": "UPDATE billing_creditgrant SET amount_nanos = amount_nanos + 1",
    "a grant less": "DELETE FROM billing_creditgrant",
    "an invoice line's charge": "UPDATE billing_invoiceline SET charge_nanos = charge_nanos + 10000000, amount_cents = amount_cents + 1",
    "an invoice line": "DELETE FROM billing_invoiceline",
    "a price": "UPDATE billing_price SET unit_nanos = unit_nanos + 1",
    "a balance": "UPDATE billing_budget SET spent_nanos = spent_nanos - 1",
    "a limit": "UPDATE billing_budget SET limit_nanos = limit_nanos + 1",
    "an hour's sum": "UPDATE billing_usagerollup SET charge_nanos = charge_nanos + 1",
    "a posting": "UPDATE billing_usageposting SET charge_nanos = charge_nanos + 1, fee_nanos = fee_nanos + 1",
}
TRIED: Final = f"a change and a deletion in every table of facts, then {len(EDITS) + 1} kinds of edits with the triggers off"


def append_only_tables() -> list[str]:
    """Return the tables that have a trigger against changes, as the database itself says."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT tbl_name FROM sqlite_master WHERE type = 'trigger' AND name LIKE '%\\_no\\_update' ESCAPE '\\'")
        else:
            cursor.execute("SELECT DISTINCT event_object_table FROM information_schema.triggers WHERE trigger_name LIKE '%\\_no\\_update'")
        return sorted({table for (table,) in cursor.fetchall()})


def make_facts(account: Account, price: Price) -> list[UsageEvent]:
    """Make a closed month of calls with receipts, one of them refunded, and two calls of the month after it; return the calls."""
    recorder, signer = Recorder(account), Signer(settings.RECEIPT_KEY)
    WriteReceiptKey(signer).write([None])
    recorder.lend(10**8)
    Budget.objects.get(account=account)
    made = []
    for number in range(1, 8):
        settlement = Settlement(
            process_id=recorder.identity.id, seq=number, event_id=uuid7(), account_id=account.pk, price_id=price.pk, sku=price.sku,
            unit="token", units=number * 11, charge_nanos=number * 2200, livemode=True, source="key-1",
            occurred_at=_MONTH + timedelta(days=number * 5), replayable=False, budget_ids=[recorder.budget.pk],
            input_hash=bytes(32), model_digest="d" * 64,
        )  # fmt: skip
        WriteSettlements(lambda: recorder.identity.id, signer=signer).write([settlement])
        made.append(UsageEvent.objects.get(pk=settlement.event_id))
    refund_event(made[1].pk, reason="test", by="test")
    post_usage(now=_MONTH + timedelta(days=40), everything=True)
    close_period(account, _MONTH, now=datetime(2025, 2, 1, tzinfo=UTC) + CLOSE_AFTER)
    return made


def what_shows() -> list[str]:
    """Return everything that our own checks find wrong."""
    return [*map(str, check_books()), *map(str, rederive_invoices()), *check_receipts()]


def try_every_table() -> int:
    """Change and delete rows of every protected table; return how many attempts were refused.

    Raises:
        Broken: a table took one, or one that the promise names is not protected.
    """
    tables, refused = append_only_tables(), 0
    require(set(tables) >= NAMED, f"not protected: {', '.join(sorted(NAMED - set(tables)))}")
    models: dict[str, type[Model]] = {model._meta.db_table: model for model in apps.get_models()}
    for table in tables:
        key = models[table]._meta.pk
        rows = list(models[table]._default_manager.values_list("pk", flat=True))
        for statement in (f"UPDATE {table} SET {key.column} = {key.column}", f"DELETE FROM {table}"):
            if rows:
                require(_is_refused(statement), f"the database took: {statement}")
                refused += 1
        require(list(models[table]._default_manager.values_list("pk", flat=True)) == rows, f"rows of {table} have changed")
    if refused < 2 * len(NAMED):
        message = f"Only {refused} attempts: some of the tables had no rows to change."
        raise Untried(message)
    return refused


def _is_refused(statement: str) -> bool:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    except IntegrityError as error:
        return "append-only" in str(error)
    return False


def edit_shows(edit: str) -> bool:
    """Make one of EDITS behind our back; return whether our own checks then find something."""
    behind_our_back(EDITS[edit].format(seq=3, other=4))
    return bool(what_shows())


def made_up_call_shows(fact: UsageEvent) -> bool:
    """Make up a call like `fact`; return whether our own checks then find something."""
    fields: dict[str, Any] = {field.attname: getattr(fact, field.attname) for field in UsageEvent._meta.concrete_fields}
    UsageEvent.objects.create(**{**fields, "id": uuid7(), "seq": 1000})
    return bool(what_shows())


def prove() -> str:
    """Try it; return what was seen. Each edit is made in a transaction that is then rolled back."""
    made = make_facts(open_rich_account(), make_price("house/model@1"))
    before = what_shows()
    require(not before, f"the checks find something before anything was edited: {before}")
    refused = try_every_table()
    unseen = []
    for edit in [*EDITS, "a call made up"]:
        with transaction.atomic():
            shows = edit_shows(edit) if edit in EDITS else made_up_call_shows(made[0])
            transaction.set_rollback(True)
        unseen += [] if shows else [edit]
    require(not unseen, f"{refused} changes were refused, but these edits went unnoticed: {', '.join(unseen)}")
    return f"{refused} of {refused} changes were refused, {len(EDITS) + 1} of {len(EDITS) + 1} edits were found"
