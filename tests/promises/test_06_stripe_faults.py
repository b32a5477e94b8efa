"""Promises 6 and 12: 0 double charges, 0 lost payments, whatever Stripe, the network and the webhooks do.

Each round, under one seed, buys, recharges and refunds while requests time out before and after
their effect, answer 500 or 429 or slowly, webhooks come twice, shuffled, before the answer, or
not at all. Then the faults end, and what we hold is compared with what Stripe holds.
"""

import random

import pytest

from billing import repaying, sending, topups, webhooks
from billing.books import check_books
from billing.errors import BillingError
from billing.ids import uuid7
from billing.ledger import balance, open_account
from billing.models import Account, AutoRecharge, Budget, CreditGrant, OutboxRow, PaymentRefund, TopUp
from billing.providers.fake import checkout, refunds
from billing.providers.fake.errors import ApiError
from billing.providers.fake.world import Fault
from tests.till import TIMEOUT_S, Till

CENT = 10_000_000
STEPS = 20
PROBABILITY = 0.35  # Of a fault, for each request that changes something.
SEEDS = range(12)


class Life:
    """One account's life under faults. Whatever is refused by fault is tried again, as Celery would."""

    def __init__(self, till: Till, seed: int) -> None:
        self.till, self.choose = till, random.Random(seed)
        self.account: Account = open_account(name=f"acme {seed}")
        self.sent: set[str] = set()
        faults = till.world.faults
        faults.random, faults.probability, faults.seconds = random.Random(seed), PROBABILITY, TIMEOUT_S + 0.2

    def live(self) -> None:
        """Do one thing, then let some webhooks come and some back-offs pass."""
        do = self.choose.choice([self.start, self.pay, self.pay, self.recharge, self.refund, self.refund_at_stripe, self.silence])
        do()
        self.some_webhooks()
        if self.choose.random() < 0.5:
            self.till.make_due()
            self.till.sweep()

    def start(self) -> None:
        cents = self.choose.randrange(500, 5000)
        _, row = topups.start_top_up(self.account, cents, by="ada", success_url="http://x/", cancel_url="http://x/")
        sending.deliver(row.pk)

    def pay(self) -> None:
        sessions = self.till.world.store.all("checkout.session", lambda one: one["status"] == "open")
        if not sessions:
            return self.start()
        session = self.choose.choice(sessions)
        try:
            if self.choose.random() < 0.2:
                checkout.pay_by_debit(self.till.world, session, succeeds=self.choose.random() < 0.5)
            else:
                checkout.pay_by_card(self.till.world, session, self.choose.choice(["4242", "4242", "0341", "0002"]))
        except ApiError:
            pass  # Declined: the page stays open.
        return None

    def recharge(self) -> None:
        AutoRecharge.objects.update_or_create(
            account=self.account,
            defaults={"is_on": True, "paused_at": None, "threshold_nanos": 10**15, "amount_cents": 700, "monthly_ceiling_cents": 10**6},
        )
        self.till.sweep()

    def refund(self) -> None:
        paid = list(TopUp.objects.filter(account=self.account, status="paid"))
        if not paid:
            return
        try:
            _, row = repaying.refund_top_up(self.choose.choice(paid), self.choose.randrange(1, 400), reason="r", reference=uuid7(), by="op")
        except BillingError:
            return  # Nothing is left of it.
        sending.deliver(row.pk)

    def refund_at_stripe(self) -> None:
        charges = self.till.world.store.all("charge")
        if charges:
            try:
                refunds.create_refund(
                    self.till.world, {"charge": self.choose.choice(charges)["id"], "amount": self.choose.randrange(1, 300)}
                )
            except ApiError:
                return

    def silence(self) -> None:
        for event in self.till.events():  # What was not told until now is never told.
            if self.choose.random() < 0.5:
                self.sent.add(event["id"])

    def some_webhooks(self) -> None:
        events = [event for event in self.till.events() if event["id"] not in self.sent]
        self.choose.shuffle(events)
        for event in events[: self.choose.randrange(len(events) + 1)]:
            for _ in range(self.choose.choice([1, 1, 2])):
                assert self.till.post(event).status_code == 200
            self.sent.add(event["id"])
        webhooks.apply_waiting()

    def end_of_the_faults(self) -> None:
        """A day passes in which Stripe answers; no more webhooks are sent than were."""
        self.till.world.faults.probability = 0.0
        AutoRecharge.objects.update(is_on=False)
        checkout.settle_due(self.till.world, now=1e11)
        for _ in range(4):
            self.till.make_due()
            self.till.sweep()
            webhooks.catch_up()


def check(life: Life) -> None:
    """Compare what we hold with what Stripe holds, to the cent."""
    store, account = life.till.world.store, life.account
    charges = store.all("charge")
    by_payment = {charge["payment_intent"]: charge for charge in charges}

    assert len(by_payment) == len(charges), "a payment was charged twice"
    ours = dict(TopUp.objects.filter(status="paid").values_list("payment_id", "amount_cents"))
    assert ours == {payment: charge["amount"] for payment, charge in by_payment.items()}, "a payment was lost, or made up"
    references = [intent["metadata"].get("farebox_top_up") for intent in store.all("payment_intent") if intent["status"] == "succeeded"]
    assert len(references) == len(set(references)), "one top-up was paid by two payments"
    given = sum(charge["amount_refunded"] for charge in charges)
    taken = sum(PaymentRefund.objects.exclude(status="failed").values_list("amount_cents", flat=True))
    assert taken == given, "a refund was made twice, or not recorded"
    assert len(store.all("refund")) == PaymentRefund.objects.exclude(refund_id="").count()
    assert balance(account).granted == (sum(ours.values()) - given) * CENT
    assert CreditGrant.objects.filter(reference__startswith="top_up:").count() == len(ours)
    assert not OutboxRow.objects.filter(state="waiting").exists()
    assert check_books() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.django_db
@pytest.mark.parametrize("seed", SEEDS)
def test_no_payment_is_doubled_or_lost_under_faults(till: Till, seed: int) -> None:
    print(f"seed {seed}")
    life = Life(till, seed)
    # At least one payment and one fault in every life.
    till.world.faults.probability = 0
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="checkout/sessions", seconds=TIMEOUT_S + 0.2))
    life.start()
    checkout.pay_by_card(till.world, till.world.store.all("checkout.session")[0], "4242")
    till.world.faults.probability = PROBABILITY
    for _ in range(STEPS):
        life.live()
    life.end_of_the_faults()

    assert life.till.world.store.all("charge")
    assert till.world.faults.taken > 0
    check(life)


@pytest.mark.django_db
def test_the_check_would_find_a_lost_payment_and_a_double_one(till: Till) -> None:
    # The negative control: without idempotency keys, the same fault charges twice, and the check says so.
    life = Life(till, 0)
    till.world.faults.probability = 0
    till.top_up(life.account)
    check(life)
    Budget.objects.filter(account=life.account).update(limit_nanos=1)
    with pytest.raises(AssertionError):
        check(life)

    till.pay(till.start(life.account))  # Nobody tells us.
    with pytest.raises(AssertionError, match="lost"):
        check(life)


def test_without_its_key_a_lost_answer_charges_twice(till: Till, monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    # The control of the keys themselves: each attempt under a key of its own.
    monkeypatch.setattr(OutboxRow, "idempotency_key", property(lambda row: f"fresh-{uuid7()}"))
    life = Life(till, 0)
    till.world.faults.probability = 0
    till.top_up(life.account)
    Budget.objects.filter(account=life.account).update(spent_nanos=0)
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="POST /v1/payment_intents", seconds=TIMEOUT_S + 0.2))
    life.recharge()
    AutoRecharge.objects.update(is_on=False)
    till.make_due()
    till.sweep()
    till.tell()

    with pytest.raises(AssertionError):
        check(life)
