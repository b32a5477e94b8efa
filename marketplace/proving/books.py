"""Promise 3: the books balance. Any sequence of what can happen to money, checked after each step.

One account's money against a model of plain numbers: grants, calls, refunds, price changes, postings, closed months,
top-ups, their refunds and disputes.
"""

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from django.db import transaction

from billing import disputes, repaying, topups
from billing.books import check_books
from billing.customers import ensure_customer
from billing.errors import PaymentsFrozen, RefundTooLarge
from billing.ids import uuid7
from billing.invoicing import CLOSE_AFTER, close_period
from billing.ledger import balance, grant_credit, ledger_balance, open_account, provider_account_name
from billing.lending import GiveLeases, LeaseAsk, LeaseReturn, TakeLeasesBack
from billing.models import Budget, CreditGrant, LedgerEntry, Price, SkuShare, TopUp, UsageEvent, UsagePosting
from billing.money import NANOS_PER_CENT as CENT
from billing.money import Nanos
from billing.periods import EPOCH, month_of
from billing.posting import post_usage
from billing.prices import terms_of
from billing.pricing import Shape, Tier, dearest_unit, highest_charge
from billing.processes import ProcessIdentity
from billing.providers.base import DisputeState, PaymentState, RefundState
from billing.refunding import refund_event
from billing.rerating import rederive_invoices
from billing.settling import Settlement, WriteSettlements
from billing.shapes import render_shape
from marketplace.proving.findings import require

STEPS: Final = 12
_SKU, _METER = "house/machine@1", "house/machine"
SHAPES: Final = [
    Shape(unit_nanos=200),
    Shape(unit_nanos=3_333_333),
    Shape(scheme="graduated", tiers=(Tier(up_to=30, unit_nanos=5_000_000), Tier(up_to=None, unit_nanos=70_001, flat_nanos=999))),
    Shape(scheme="volume", tiers=(Tier(up_to=25, unit_nanos=4_000_000), Tier(up_to=None, unit_nanos=1_000_003))),
    Shape(scheme="package", unit_nanos=50_000_009, package_units=7),
    Shape(unit_nanos=1_000_007, free_units=10, trial_units=5),
]
_FEE_BASIS_POINTS: Final = 1337
_SEQUENCES: Final = 20
TRIED: Final = (
    f"{_SEQUENCES} random sequences of {STEPS} steps, checked after each: calls, refunds, prices, postings, closes, top-ups, disputes"
)


class Money:
    """One payer, one provider, one SKU whose price changes; a clock of whole months that only we move."""

    done: ClassVar[Counter[str]] = Counter()  # What really happened, over all sequences.

    def __init__(self) -> None:
        self._atomic = transaction.atomic()
        self._atomic.__enter__()
        self.account, self.payee = open_account(name="payer"), open_account(name="provider")
        ensure_customer(self.account)
        SkuShare.objects.create(subject=_METER, payee=self.payee, fee_basis_points=_FEE_BASIS_POINTS, effective_from=EPOCH, by="test")
        self.identity = ProcessIdentity()
        self.identity.register(delivered_seq=0)
        self.month, self.seq, self.names = datetime(2025, 1, 1, tzinfo=UTC), 0, 0
        # The model: what the account was given, by grants and payments, less what was taken back; and what calls cost.
        self.given = 0
        self.charges: dict[Any, int] = {}
        self.price = self._set_price(SHAPES[0], EPOCH)
        self.grant(500)

    def end(self) -> None:
        """Forget everything."""
        transaction.set_rollback(True)
        self._atomic.__exit__(None, None, None)

    # ------------------------------------------------------------ What can happen

    def grant(self, cents: int) -> None:
        """The operator gives credit, told twice."""
        reference = self._name()
        for _ in range(2):
            grant_credit(self.account, Nanos(cents * CENT), kind="operator", reference=reference, by="test")
        self.given += cents * CENT

    def top_up(self, cents: int, repeats: int) -> None:
        """A payment comes in, and is heard of once or twice."""
        top_up = TopUp.objects.create(account=self.account, amount_cents=cents, currency="usd", source="checkout", by="test")
        state = PaymentState(
            id=f"pi_{top_up.pk.hex}", status="succeeded", amount_cents=cents, received_cents=cents, currency="usd", reference=top_up.pk
        )
        for _ in range(repeats):
            topups.apply_payment(top_up, state)
        self.given += cents * CENT
        self.done["top-ups"] += 1

    def call(self, units: int, days: int, hours: int) -> None:
        """A call is admitted if its highest charge can be held, and settles at its place in the month."""
        terms = terms_of(self.price)
        held, budget = highest_charge(terms, units), Budget.objects.get(account=self.account, subject="account")
        left = budget.limit_nanos - budget.spent_nanos - budget.leased_nanos
        ask = LeaseAsk(
            process_id=self.identity.id, account_id=self.account.pk, subject="account", interval="total", starts_at=EPOCH,
            ends_at=None, limit_nanos=None, budget_id=None, amounts=(held,), free_nanos=0,
        )  # fmt: skip
        (grant,) = GiveLeases(lambda: self.identity.id).write([ask])
        assert not isinstance(grant, Exception)
        require((grant.granted_nanos >= held) == (held <= left), "a call was refused that could pay, or admitted that could not")
        charge = 0
        self.done["refused calls"] += grant.granted_nanos < held
        if grant.granted_nanos >= held:
            charge = self._settle(terms, units, held, budget.pk, self.month + timedelta(days=days, hours=hours))
        back = LeaseReturn(self.identity.id, budget.pk, grant.granted_nanos - charge)
        refused = TakeLeasesBack(lambda: self.identity.id).write([back])
        require(refused == [None], f"a lease could not be given back: {refused}")

    def calls(self, units: list[int], day: int) -> None:
        """Some calls, one after the other."""
        for hour, one in enumerate(units):
            self.call(one, day, hour)

    def refund_a_call(self, pick: random.Random) -> None:
        """A call is refunded, of this month or a closed one, told twice."""
        event = pick.choice(sorted(self.charges))
        for _ in range(2):
            refund_event(event, reason="test", by="test")
        del self.charges[event]
        self.done["refunded calls"] += 1

    def change_the_price(self, shape: Shape, day: int) -> None:
        """A new price holds for the calls from now on."""
        self.price = self._set_price(shape, self.month + timedelta(days=day, seconds=self.seq, microseconds=self.names))

    def post(self, days: int) -> None:
        """Hours that are over are posted to the ledger."""
        self.done["postings"] += post_usage(now=self.month + timedelta(days=days), everything=True)

    def close_the_month(self) -> None:
        """The month is sealed, and asked for again."""
        _, ends_at = month_of(self.month)
        first = close_period(self.account, self.month, now=ends_at + CLOSE_AFTER)
        again = close_period(self.account, self.month, now=ends_at + CLOSE_AFTER)
        require(again == first, "a month was closed twice")
        self.given += sum(
            CreditGrant.objects.filter(account=self.account, kind="rebate", reference__contains=first.number).values_list(
                "amount_nanos", flat=True
            )
        )
        self.month = ends_at
        self.done["invoice lines"] += first.lines.count()
        wrong = rederive_invoices()
        require(not wrong, f"closed calls do not come to their charges again: {wrong}")
        rounded = first.total_cents * CENT + first.carried_out_nanos
        lines = sum(first.lines.values_list("charge_nanos", flat=True)) + first.carried_in_nanos
        require(rounded == lines, f"an invoice of {rounded} nanos has lines of {lines}")

    def repay(self, pick: random.Random, cents: int, *, ends_well: bool) -> None:
        """A payment is given back, as far as credit is left; the bank may send the money back again."""
        top_up = pick.choice(self.paid())
        now = balance(self.account)
        try:
            refund, _ = repaying.refund_top_up(top_up, cents, reason="test", reference=uuid7(), by="test")
        except (RefundTooLarge, PaymentsFrozen):
            return
        require(cents * CENT <= now.available, "more was paid back than is left")
        state = RefundState(
            id=f"re_{refund.pk.hex}", status="succeeded" if ends_well else "failed", amount_cents=cents,
            payment=top_up.payment_id, reference=refund.pk,
        )  # fmt: skip
        for _ in range(2):
            repaying.apply_refund(state)
        self.given -= cents * CENT * ends_well
        self.done["repaid payments"] += 1

    def dispute(self, pick: random.Random, end: str) -> None:
        """A payment is disputed, whatever of it was spent; told in any order, a won one gives its credit back."""
        top_up = pick.choice(self.paid())
        if top_up.disputes.exists() or top_up.refunds.exists():
            return
        budget = Budget.objects.get(account=self.account, subject="account")
        if budget.limit_nanos < top_up.amount_cents * CENT:
            return
        for status in pick.sample(["needs_response", end], k=2):
            disputes.apply_dispute(
                DisputeState(
                    id=f"dp_{top_up.pk.hex}",
                    status=status,
                    amount_cents=top_up.amount_cents,
                    payment=top_up.payment_id,
                    reason="fraudulent",
                )
            )
        self.done["disputes"] += 1
        if end != "won":
            self.given -= top_up.amount_cents * CENT

    # ------------------------------------------------------------ What must hold after each

    def check(self) -> None:
        """See that all of it holds now.

        Raises:
            Broken: with the numbers that do not agree.
        """
        self.the_balance_is_what_was_given_less_what_calls_cost()
        self.the_books_are_clean()
        self.a_charge_is_the_providers_share_and_our_fee()

    def the_balance_is_what_was_given_less_what_calls_cost(self) -> None:
        """The account's own numbers against the model's."""
        now = balance(self.account)
        ours, theirs = (now.granted, now.spent, now.held), (self.given, sum(self.charges.values()), 0)
        require(ours == theirs, f"granted, spent and held are {ours} nanos, and should be {theirs}")

    def the_books_are_clean(self) -> None:
        """Every balance against its facts; and the ledger as a whole sums to zero."""
        wrong = check_books()
        require(not wrong, f"the books: {wrong}")
        total = sum(LedgerEntry.objects.values_list("amount_nanos", flat=True))
        require(total == 0, f"the ledger sums to {total} nanos")

    def a_charge_is_the_providers_share_and_our_fee(self) -> None:
        """What was posted is split without rest."""
        rows = UsagePosting.objects.values_list("charge_nanos", "fee_nanos")
        shares, owed = sum(charge - fee for charge, fee in rows), ledger_balance(provider_account_name(self.payee))
        require(owed == shares, f"the provider is owed {owed} nanos, its shares come to {shares}")

    # ------------------------------------------------------------ Steps

    def _settle(self, terms: Any, units: int, held: int, budget_id: int, at: datetime) -> int:
        self.seq += 1
        event_id = uuid7()
        settlement = Settlement(
            process_id=self.identity.id, seq=self.seq, event_id=event_id, account_id=self.account.pk, price_id=terms.price_id, sku=_SKU,
            unit="token", units=units, charge_nanos=0 if not terms.is_plain else units * terms.unit_nanos, livemode=True, source="key",
            occurred_at=at, replayable=False, budget_ids=[budget_id], terms=None if terms.is_plain else terms, held_nanos=held,
        )  # fmt: skip
        WriteSettlements(lambda: self.identity.id).write([settlement])
        self.charges[event_id] = settlement.charge_nanos
        self.done["calls"] += 1
        recorded = UsageEvent.objects.get(pk=event_id).charge_nanos
        require(
            recorded == settlement.charge_nanos <= held,
            f"a call held {held} nanos, settled {settlement.charge_nanos}, and has {recorded} on record",
        )
        return settlement.charge_nanos

    def _set_price(self, shape: Shape, at: datetime) -> Price:
        self.names += 1
        plain = shape.is_plain
        return Price.objects.create(
            sku=_SKU,
            unit="token",
            unit_nanos=dearest_unit(shape),
            shape=None if plain else render_shape(shape),
            meter=_METER,
            effective_from=at,
        )

    def paid(self) -> list[TopUp]:
        """Return the payments that can be given back or disputed."""
        return list(TopUp.objects.filter(account=self.account, status="paid").order_by("pk"))

    def _name(self) -> str:
        self.names += 1
        return f"machine {self.names}"


def _step(money: Money, choose: random.Random) -> None:
    """Have one thing happen, whichever can."""
    steps: list[Callable[[], None]] = [
        lambda: money.grant(choose.randint(1, 2000)),
        lambda: money.top_up(choose.randint(50, 3000), choose.randint(1, 2)),
        lambda: money.call(choose.randint(1, 60), choose.randint(0, 27), choose.randint(0, 23)),
        lambda: money.calls([choose.randint(1, 40) for _ in range(choose.randint(2, 4))], choose.randint(0, 27)),
        lambda: money.change_the_price(choose.choice(SHAPES), choose.randint(1, 27)),
        lambda: money.post(choose.randint(0, 31)),
        money.close_the_month,
    ]
    if money.charges:
        steps.append(lambda: money.refund_a_call(choose))
    if money.paid():
        steps.append(lambda: money.repay(choose, choose.randint(1, 900), ends_well=choose.random() < 0.5))
        steps.append(lambda: money.dispute(choose, choose.choice(["needs_response", "won", "lost"])))
    choose.choice(steps)()


def prove() -> str:
    """Try it; return what was seen. Each sequence is rolled back."""
    steps, before = 0, Counter(Money.done)
    for seed in range(_SEQUENCES):
        choose, money = random.Random(seed), Money()
        try:
            money.check()
            for _ in range(STEPS):
                _step(money, choose)
                money.check()
                steps += 1
        finally:
            money.end()
    done = Money.done - before
    return f"balanced after each of {steps} steps: {', '.join(f'{count} {what}' for what, count in sorted(done.items()))}"
