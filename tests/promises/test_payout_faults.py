"""Promise: 0 double transfers and 0 lost ones, whatever Stripe, the network and the webhooks do.

Each life, under one seed, earns, loses shares again, is paid, has money reversed by us and at Stripe, while requests
time out before and after their effect, answer 500 or 429 or slowly, and webhooks come twice, shuffled or not
at all. Then the faults end, and what we hold is compared with what Stripe holds, to the cent.
"""

import random
from datetime import timedelta

import pytest
from django.utils import timezone

from billing import connecting, payout_runs, webhooks
from billing.books import check_books
from billing.ids import uuid7
from billing.ledger import ledger_balance, open_account, provider_account_name
from billing.models import Account, OutboxRow, Payout, PayoutAccount, PayoutReversal
from billing.providers.fake import connect
from billing.providers.fake.errors import ApiError
from billing.providers.fake.world import Fault
from tests.billing.payees import CENT, earn, fund_platform, later, onboard, pay
from tests.till import HANG_S, Till

STEPS = 20
PROBABILITY = 0.35  # Of a fault, for each request that changes something.
SEEDS = range(8)


class Life:
    """Two providers' life under faults. Whatever is refused by fault is tried again, as Celery would."""

    def __init__(self, till: Till, seed: int) -> None:
        self.till, self.choose = till, random.Random(seed)
        self.earned: dict[Account, int] = {}
        self.sent: set[str] = set()
        for name in ("one", "two"):
            provider = open_account(name=f"{name} {seed}")
            onboard(till, provider)
            self.earned[provider] = 0
        fund_platform(till, 90_000)
        self.sent |= {event["id"] for event in till.events()}
        faults = till.world.faults
        faults.random, faults.seconds = random.Random(seed), HANG_S

    def live(self) -> None:
        """Do one thing, then let some webhooks come and some back-offs pass."""
        do = self.choose.choice(
            [self.earn, self.earn, self.lose, self.run, self.run, self.reverse_at_stripe, self.to_the_bank, self.restrict]
        )
        do(self.choose.choice(list(self.earned)))
        self.some_webhooks()
        if self.choose.random() < 0.6:
            self.till.make_due()
            self.till.sweep()

    def earn(self, account: Account) -> None:
        cents = self.choose.randrange(500, 5000)
        self.earned[account] += cents
        earn(account, cents)

    def lose(self, account: Account) -> None:
        cents = self.choose.randrange(100, 3000)
        self.earned[account] -= cents
        earn(account, -cents)

    def run(self, _: Account) -> None:
        payout_runs.pay_providers(now=later(), by="test")

    def reverse_at_stripe(self, _: Account) -> None:
        transfers = self.till.world.store.all("transfer")
        if transfers:
            try:
                connect.create_reversal(self.till.world, {"amount": self.choose.randrange(1, 300)}, self.choose.choice(transfers)["id"])
            except ApiError:
                return  # Nothing is left of it.

    def to_the_bank(self, _: Account) -> None:
        at_stripe = self.choose.choice(self.till.world.store.all("account"))
        try:
            connect.pay_out(self.till.world, at_stripe, succeeds=self.choose.random() < 0.7)
        except ApiError:
            return  # It is restricted.

    def restrict(self, _: Account) -> None:
        at_stripe = self.choose.choice(self.till.world.store.all("account"))
        (connect.restrict if self.choose.random() < 0.5 else connect.complete)(self.till.world, at_stripe)

    def some_webhooks(self) -> None:
        self.till.tell_some(self.choose, self.sent, lost=0.3)

    def end_of_the_faults(self) -> None:
        """A day passes in which Stripe answers; no more webhooks are sent than were."""
        self.till.world.faults.probability = 0.0
        for _ in range(4):
            self.till.make_due()
            self.till.sweep()
            PayoutAccount.objects.update(refreshed_at=timezone.now() - timedelta(days=1))
            webhooks.catch_up()


def check(life: Life) -> None:
    """Compare what we hold with what Stripe holds, to the cent."""
    store = life.till.world.store
    transfers = {transfer["id"]: transfer for transfer in store.all("transfer")}
    references = [transfer["metadata"]["farebox_payout"] for transfer in transfers.values()]

    assert len(references) == len(set(references)), "a payout was sent twice"
    ours = dict(Payout.objects.filter(status="paid").values_list("transfer_id", "amount_cents"))
    assert ours == {one: transfer["amount"] for one, transfer in transfers.items()}, "a transfer was lost, or made up"
    at_stripe = {one["id"]: one["amount"] for one in store.all("transfer_reversal")}
    assert dict(PayoutReversal.objects.filter(status="done").values_list("reversal_id", "amount_cents")) == at_stripe
    for account, earned in life.earned.items():
        connected = PayoutAccount.objects.get(account=account).connected_id
        mine = [transfer for transfer in transfers.values() if transfer["destination"] == connected]
        left = earned - sum(transfer["amount"] - transfer["amount_reversed"] for transfer in mine)
        assert ledger_balance(provider_account_name(account)) == left * CENT, "the balance is not what was earned and not sent"
    assert not OutboxRow.objects.filter(state="waiting").exists()
    assert not Payout.objects.filter(status="waiting").exists()
    assert check_books() == []
    Payout.objects.update(settled_at=timezone.now() - timedelta(hours=2))
    assert payout_runs.check_today(now=timezone.now()) in ([], None)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.django_db
@pytest.mark.parametrize("seed", SEEDS)
def test_no_transfer_is_doubled_or_lost_under_faults(till: Till, seed: int) -> None:
    print(f"seed {seed}")
    life = Life(till, seed)
    # At least one payout and one fault in every life.
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="POST /v1/transfers", seconds=HANG_S))
    account = next(iter(life.earned))
    life.earned[account] += 2000
    earn(account, 2000)
    life.run(account)
    till.sweep()
    till.world.faults.probability = PROBABILITY
    for _ in range(STEPS):
        life.live()
    life.end_of_the_faults()

    assert till.world.store.all("transfer")
    assert till.world.faults.taken > 0
    check(life)


def test_without_its_key_a_lost_answer_sends_twice_and_is_found(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    # The control of the keys themselves: each attempt under a key of its own, and nothing looked up.
    monkeypatch.setattr(OutboxRow, "idempotency_key", property(lambda row: f"fresh-{uuid7()}"))
    life = Life(till, 0)
    account = next(iter(life.earned))
    life.earned[account] += 2000
    earn(account, 2000)
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="POST /v1/transfers", seconds=HANG_S))
    pay(account)
    till.sweep()
    till.make_due()
    till.sweep()

    assert till.count("transfer") == 2
    with pytest.raises(AssertionError, match="sent twice"):
        check(life)
    differences = payout_runs.check_today(now=timezone.now())
    assert differences is not None
    assert any("was sent twice" in one for one in differences)


def test_the_check_would_find_a_payout_that_was_never_sent(till: Till) -> None:
    life = Life(till, 0)
    account = next(iter(life.earned))
    life.earned[account] += 2000
    earn(account, 2000)
    pay(account)
    till.sweep()
    check(life)
    till.world.store._database.execute("DELETE FROM object WHERE kind = 'transfer'")

    with pytest.raises(AssertionError, match="lost"):
        check(life)


def test_onboarding_under_faults_makes_one_account(till: Till) -> None:
    till.world.faults.waiting += [
        Fault(kind="timeout_after", match="POST /v1/accounts", seconds=HANG_S),
        Fault(kind="error_500_after", match="POST /v1/accounts"),
        Fault(kind="rate_limit", match="POST /v1/accounts"),
    ]
    account = open_account(name="models & co")
    connecting.start_onboarding(account, country="US")
    for _ in range(5):
        till.make_due()
        till.sweep()

    assert till.count("account") == 1
    assert PayoutAccount.objects.get().connected_id == till.world.store.all("account")[0]["id"]
