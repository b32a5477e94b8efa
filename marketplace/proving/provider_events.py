"""Promise 6: replayed, reordered or forged webhooks change nothing that they should not. With promise 12: nothing paid is lost.

Each life, under one seed, buys, recharges and refunds while requests time out before and after their effect, answer 500
or 429 or slowly, webhooks come twice, shuffled, before the answer, or not at all. Then the faults end, all that ever
happened is told once more, forgeries are tried, and what we hold is compared with what Stripe holds.
"""

import random
import time
from typing import Final

from django.test.utils import override_settings

from billing import repaying, sending, topups, webhooks
from billing.books import check_books
from billing.errors import BillingError
from billing.ids import uuid7
from billing.ledger import balance, open_account
from billing.models import Account, AutoRecharge, CreditGrant, OutboxRow, PaymentRefund, StripeEvent, TopUp
from billing.providers.fake import checkout, refunds
from billing.providers.fake.errors import ApiError
from billing.providers.fake.world import Fault
from marketplace.proving.findings import Untried, require
from marketplace.proving.till import HANG_S, Till, open_till

CENT: Final = 10_000_000
STEPS: Final = 20
PROBABILITY: Final = 0.35  # Of a fault, for each request that changes something.
_SEEDS: Final = range(4)
_LONG_AGO_S: Final = 3600
TRIED: Final = f"{len(_SEEDS)} lives of {STEPS} steps, 1 request of 3 fails; webhooks shuffled, doubled or lost, then all told again, then forged in 3 ways"


class Life:
    """One account's life under faults. Whatever is refused by fault is tried again, as Celery would."""

    def __init__(self, till: Till, seed: int) -> None:
        self.till, self.choose = till, random.Random(seed)
        self.account: Account = open_account(name=f"acme {seed}")
        self.sent: set[str] = set()
        faults = till.world.faults
        faults.random, faults.probability, faults.seconds = random.Random(seed), PROBABILITY, HANG_S

    def live(self) -> None:
        """Do one thing, then let some webhooks come and some back-offs pass."""
        do = self.choose.choice([self.start, self.pay, self.pay, self.recharge, self.refund, self.refund_at_stripe, self.silence])
        do()
        self.some_webhooks()
        if self.choose.random() < 0.5:
            self.till.make_due()
            self.till.sweep()

    def start(self) -> None:
        """Open a Checkout page."""
        cents = self.choose.randrange(500, 5000)
        _, row = topups.start_top_up(self.account, cents, by="ada", success_url="http://x/", cancel_url="http://x/")
        sending.deliver(row.pk)

    def pay(self) -> None:
        """Pay on one, by card or debit."""
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
        """Have the saved card charged."""
        AutoRecharge.objects.update_or_create(
            account=self.account,
            defaults={"is_on": True, "paused_at": None, "threshold_nanos": 10**15, "amount_cents": 700, "monthly_ceiling_cents": 10**6},
        )
        self.till.sweep()

    def refund(self) -> None:
        """Give a part of a payment back."""
        paid = list(TopUp.objects.filter(account=self.account, status="paid"))
        if not paid:
            return
        try:
            _, row = repaying.refund_top_up(self.choose.choice(paid), self.choose.randrange(1, 400), reason="r", reference=uuid7(), by="op")
        except BillingError:
            return  # Nothing is left of it.
        sending.deliver(row.pk)

    def refund_at_stripe(self) -> None:
        """Give a part back on Stripe's own pages."""
        charges = self.till.world.store.all("charge")
        if charges:
            try:
                refunds.create_refund(
                    self.till.world, {"charge": self.choose.choice(charges)["id"], "amount": self.choose.randrange(1, 300)}
                )
            except ApiError:
                return

    def silence(self) -> None:
        """Have half of what was not told yet never be told."""
        for event in self.till.events():  # What was not told until now is never told.
            if self.choose.random() < 0.5:
                self.sent.add(event["id"])

    def some_webhooks(self) -> None:
        """Have some events told, shuffled, one of three twice."""
        self.till.tell_some(self.choose, self.sent)

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
    """Compare what we hold with what Stripe holds, to the cent.

    Raises:
        Broken: with what was lost, doubled or made up.
    """
    store, account = life.till.world.store, life.account
    charges = store.all("charge")
    by_payment = {charge["payment_intent"]: charge for charge in charges}

    require(len(by_payment) == len(charges), "a payment was charged twice")
    ours = dict(TopUp.objects.filter(account=account, status="paid").values_list("payment_id", "amount_cents"))
    require(ours == {payment: charge["amount"] for payment, charge in by_payment.items()}, "a payment was lost, or made up")
    references = [intent["metadata"].get("farebox_top_up") for intent in store.all("payment_intent") if intent["status"] == "succeeded"]
    require(len(references) == len(set(references)), "one top-up was paid by two payments")
    given = sum(charge["amount_refunded"] for charge in charges)
    refunds_of_account = PaymentRefund.objects.filter(top_up__account=account)
    taken = sum(refunds_of_account.exclude(status="failed").values_list("amount_cents", flat=True))
    require(taken == given, "a refund was made twice, or not recorded")
    require(len(store.all("refund")) == refunds_of_account.exclude(refund_id="").count(), "a refund was lost, or made up")
    granted, paid = balance(account).granted, (sum(ours.values()) - given) * CENT
    require(granted == paid, f"{granted} nanos of credit for {paid} paid")
    grants = CreditGrant.objects.filter(account=account, reference__startswith="top_up:").count()
    require(grants == len(ours), f"{grants} grants for {len(ours)} payments")
    require(not OutboxRow.objects.filter(account=account, state="waiting").exists(), "something that was accepted was never sent")
    wrong = check_books()
    require(not wrong, f"the books: {wrong}")


def live(till: Till, *, seed: int) -> Life:
    """Live one life to its end, with at least one payment and one fault in it."""
    life = Life(till, seed)
    till.world.faults.probability = 0
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="checkout/sessions", seconds=HANG_S))
    life.start()
    checkout.pay_by_card(till.world, till.world.store.all("checkout.session")[0], "4242")
    till.world.faults.probability = PROBABILITY
    for _ in range(STEPS):
        life.live()
    life.end_of_the_faults()
    if not till.world.store.all("charge") or not till.world.faults.taken:
        message = "Nothing was paid, or nothing went wrong."
        raise Untried(message)
    return life


def tell_all_again(life: Life) -> int:
    """Send every event that ever was once more, newest first; return how many."""
    events = life.till.events()[::-1]
    for event in events:
        life.till.post_taken(event)
    webhooks.apply_waiting()
    return len(events)


def forge(life: Life) -> int:
    """Send events under a wrong secret, changed after they were signed, and signed long ago; return how many were refused.

    Raises:
        Broken: one was taken.
    """
    known, tried = StripeEvent.objects.count(), 0
    for event in life.till.events():
        made_up = {**event, "id": f"evt_forged_{tried}"}
        statuses = [
            life.till.post(made_up, secret="whsec_guessed").status_code,  # noqa: S106 (a forger's)
            life.till.post(made_up, signed=event).status_code,
            life.till.post(made_up, at=int(time.time()) - _LONG_AGO_S).status_code,
        ]
        require(200 not in statuses, f"a forged webhook was taken: {statuses}")
        tried += len(statuses)
    require(StripeEvent.objects.count() == known, "a forged webhook is on record")
    return tried


def prove() -> str:
    """Try it; return what was seen."""
    charges = told = forged = 0
    for seed in _SEEDS:
        with override_settings(PAYMENTS="fake"), open_till() as till:
            life = live(till, seed=seed)
            check(life)
            told += tell_all_again(life)
            check(life)
            forged += forge(life)
            check(life)
            charges += till.count("charge")
    return f"{charges} payments, each credited once; {told} webhooks told again, 0 effects; {forged} of {forged} forgeries refused"
