"""Promises 6 and 12 for months paid afterwards: one invoice, one payment, one entry, whatever goes wrong on the way.

Each round, under one seed, closes months with or without a saved card while requests time out before and after their
effect, answer 500 or 429, and webhooks come twice, shuffled, late or never. Then the faults end, and both sides are compared.
"""

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from billing import credit_lines, sending, webhooks
from billing.books import check_books
from billing.credit_notes import credit_invoice
from billing.errors import BillingError
from billing.ids import uuid7
from billing.invoicing import CLOSE_AFTER, close_period
from billing.ledger import balance, grant_credit, open_account
from billing.models import Account, CreditGrant, CreditNote, Customer, Invoice, OutboxRow, Price
from billing.money import NANOS_PER_CENT as CENT
from billing.money import Nanos
from billing.periods import EPOCH, month_of
from billing.providers.fake import invoice_pages, taxes
from tests.billing.facts import Recorder
from tests.till import HANG_S, Till

pytestmark = pytest.mark.django_db
SEEDS = range(8)
PROBABILITY = 0.3


class Life:
    """Some months of one postpaid account under faults."""

    def __init__(self, till: Till, seed: int) -> None:
        self.till, self.choose = till, random.Random(seed)
        self.account: Account = open_account(name=f"acme {seed}")
        if self.choose.random() < 0.5:
            till.top_up(self.account, 500, card=self.choose.choice(["4242", "0341"]))
        else:
            grant_credit(self.account, Nanos(333 * CENT), kind="operator", reference=f"r{seed}", by="test")
        credit_lines.set_credit_line(self.account, 10**13)
        self.price = Price.objects.create(sku=f"house/m{seed}@1", unit="call", unit_nanos=1_234_567_891, effective_from=EPOCH)
        self.recorder = Recorder(self.account)
        self.sent: set[str] = {event["id"] for event in till.events()}
        faults = till.world.faults
        faults.random, faults.probability, faults.seconds = random.Random(seed), PROBABILITY, HANG_S

    def month(self, first: datetime) -> None:
        self.recorder.record(self.price, units=self.choose.randrange(5, 90), occurred_at=first)
        close_period(self.account, first, now=month_of(first)[1] + CLOSE_AFTER)
        for _ in range(5):
            self.till.make_due()
            self.till.sweep()
            self.choose.choice([self.pay, self.note, self.silence, self.pay])()
            self.some_webhooks()

    def pay(self) -> None:
        for invoice in self.till.world.store.all("invoice", lambda one: one["status"] == "open"):
            path = invoice["hosted_invoice_url"].split("/invoice/")[1]
            invoice_pages.hosted(self.till.world, path, {"choice": self.choose.choice(["4242", "0002"])})

    def note(self) -> None:
        for invoice in Invoice.objects.filter(account=self.account, status__in=["open", "paid"]).exclude(hosted_url=""):
            ways = ["credit", "card"] if invoice.status == "paid" else ["credit"]
            asked = {"settlement": self.choose.choice(ways), "reason": "r", "reference": uuid7(), "by": "op"}
            try:
                _, row = credit_invoice(invoice, {invoice.lines.get().pk: self.choose.randrange(1, 200)}, **asked)
            except BillingError:
                continue
            if row:
                sending.deliver(row.pk)

    def silence(self) -> None:
        self.sent |= {event["id"] for event in self.till.events() if self.choose.random() < 0.5}

    def some_webhooks(self) -> None:
        self.till.tell_some(self.choose, self.sent)

    def end_of_the_faults(self) -> None:
        self.till.world.faults.probability = 0.0
        for _ in range(8):
            self.till.make_due()
            self.till.sweep()
            webhooks.catch_up()
        for invoice in self.till.world.store.all("invoice", lambda one: one["status"] == "open"):
            invoice_pages.hosted(self.till.world, invoice["hosted_invoice_url"].split("/invoice/")[1], {"choice": "4242"})
        webhooks.catch_up()
        self.till.make_due()
        webhooks.apply_waiting()


@pytest.mark.parametrize("seed", SEEDS)
def test_months_are_collected_once_under_faults(till: Till, seed: int) -> None:
    life = Life(till, seed)
    for month in (9, 10):
        life.month(datetime(2025, month, 1, tzinfo=UTC))
    life.end_of_the_faults()

    store, account = till.world.store, life.account
    ours = {invoice.provider_id: invoice for invoice in Invoice.objects.filter(account=account).exclude(status="closed")}
    final = {one["id"]: one for one in store.all("invoice") if one["status"] != "draft"}
    assert set(ours) == set(final), "an invoice was lost, or made final twice"
    assert {invoice.status for invoice in ours.values()} <= {"paid"}
    for identity, invoice in ours.items():
        assert (invoice.due_cents, invoice.paid_cents) == (final[identity]["total"], final[identity]["amount_paid"])
        charged = [one for one in store.all("charge") if one["payment_intent"] == final[identity]["_intent"]]
        assert len(charged) == (1 if invoice.paid_cents else 0), "an invoice was charged twice"
    entered = sum(CreditGrant.objects.filter(account=account, kind="invoice").values_list("amount_nanos", flat=True))
    assert entered == sum(one["amount_paid"] for one in final.values()) * CENT
    given = sum(refund["amount"] for refund in store.all("refund"))
    assert given == sum(CreditNote.objects.filter(settlement="card").values_list("total_cents", flat=True))
    assert balance(account).granted >= balance(account).spent - 50 * CENT  # Nothing is owed but what is too little to collect.
    assert check_books() == []


@pytest.mark.parametrize("seed", range(3))
def test_taxes_are_entered_and_recorded_once_under_faults(till: Till, settings: Any, seed: int) -> None:
    settings.STRIPE_TAX = True
    life = Life(till, seed)
    life.month(datetime(2025, 9, 1, tzinfo=UTC))  # Its tax waits: nobody knows yet where the customer lives.
    till.world.faults.probability = 0.0
    till.make_due()
    till.sweep()
    customer_id = Customer.objects.get(account=life.account).customer_id
    taxes.set_address(till.world, till.world.store.get("customer", customer_id), "DE")
    till.world.faults.probability = PROBABILITY
    life.month(datetime(2025, 10, 1, tzinfo=UTC))
    life.end_of_the_faults()
    till.world.faults.probability = PROBABILITY
    life.note()
    life.end_of_the_faults()

    closed = Invoice.objects.filter(account=life.account).select_related("provider_tax")
    assert {invoice.provider_tax.status for invoice in closed} == {"known"}
    assert all(0 < invoice.tax_cents < invoice.total_cents for invoice in closed)
    recorded = {one["reference"]: -one["_total"] if one["reversal"] else one["_tax"] for one in till.world.store.all("tax.transaction")}
    assert len(recorded) == till.count("tax.transaction"), "something was recorded twice"
    owed = {invoice.number: invoice.tax_cents for invoice in closed}
    told = OutboxRow.objects.filter(kind="tax.reverse", state="done").values_list("subject", flat=True)
    notes = CreditNote.objects.filter(pk__in=list(told))
    assert notes.exists()
    assert recorded == owed | {note.number: note.total_cents for note in notes}
    assert check_books() == []


@pytest.mark.slow
def test_500_orders_of_the_same_webhooks_end_in_one_state(till: Till) -> None:
    life = Life(till, 99)
    till.world.faults.probability = 0.0
    life.recorder.record(life.price, units=30, occurred_at=datetime(2025, 9, 1, tzinfo=UTC))
    invoice = close_period(life.account, datetime(2025, 9, 1, tzinfo=UTC), now=datetime(2025, 10, 2, tzinfo=UTC))
    for _ in range(7):
        till.make_due()
        till.sweep()
    (theirs,) = till.world.store.all("invoice")
    if theirs["status"] == "open":
        invoice_pages.hosted(till.world, theirs["hosted_invoice_url"].split("/invoice/")[1], {"choice": "4242"})
    handlers = [event for event in till.events() if event["type"].startswith("invoice.")]
    ends = set()
    for _ in range(500):
        life.choose.shuffle(handlers)
        for event in handlers:
            webhooks._HANDLERS[event["type"]](event["data"]["object"]["id"])  # What the inbox does with each, without its table.
        invoice.refresh_from_db()
        ends.add((invoice.status, invoice.paid_cents, CreditGrant.objects.filter(kind="invoice").count(), balance(life.account).granted))

    assert len(ends) == 1
    assert {end[0] for end in ends} == {"paid"}
    assert check_books() == []
