"""Promise 3: the books balance. Any sequence of what can happen to money, checked after each step.

A rule-based state machine against a model of plain numbers: grants, calls, refunds, price changes, postings,
closed months, top-ups, their refunds and disputes. `make state-machine` runs 10,000 sequences; the suite some dozens.
"""

import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

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

SEQUENCES = int(os.environ.get("SEQUENCES", "25"))
STEPS = 12
SKU, METER = "house/machine@1", "house/machine"
SHAPES = [
    Shape(unit_nanos=200),
    Shape(unit_nanos=3_333_333),
    Shape(scheme="graduated", tiers=(Tier(up_to=30, unit_nanos=5_000_000), Tier(up_to=None, unit_nanos=70_001, flat_nanos=999))),
    Shape(scheme="volume", tiers=(Tier(up_to=25, unit_nanos=4_000_000), Tier(up_to=None, unit_nanos=1_000_003))),
    Shape(scheme="package", unit_nanos=50_000_009, package_units=7),
    Shape(unit_nanos=1_000_007, free_units=10, trial_units=5),
]
FEE_BASIS_POINTS = 1337


class Money(RuleBasedStateMachine):
    """One payer, one provider, one SKU whose price changes; a clock of whole months that only we move."""

    done: ClassVar[Counter[str]] = Counter()  # What really happened, over all sequences.

    def __init__(self) -> None:
        super().__init__()
        self._atomic = transaction.atomic()
        self._atomic.__enter__()
        self.account, self.payee = open_account(name="payer"), open_account(name="provider")
        ensure_customer(self.account)
        SkuShare.objects.create(subject=METER, payee=self.payee, fee_basis_points=FEE_BASIS_POINTS, effective_from=EPOCH, by="test")
        self.identity = ProcessIdentity()
        self.identity.register(delivered_seq=0)
        self.month, self.seq, self.names = datetime(2025, 1, 1, tzinfo=UTC), 0, 0
        # The model: what the account was given, by grants and payments, less what was taken back; and what calls cost.
        self.given = 0
        self.charges: dict[Any, int] = {}
        self.price = self._set_price(SHAPES[0], EPOCH)
        self.grant(500)

    def teardown(self) -> None:
        """Forget everything."""
        transaction.set_rollback(True)
        self._atomic.__exit__(None, None, None)

    # ------------------------------------------------------------ What can happen

    @rule(cents=st.integers(1, 2000))
    def grant(self, cents: int) -> None:
        """The operator gives credit, told twice."""
        reference = self._name()
        for _ in range(2):
            grant_credit(self.account, Nanos(cents * CENT), kind="operator", reference=reference, by="test")
        self.given += cents * CENT

    @rule(cents=st.integers(50, 3000), repeats=st.integers(1, 2))
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

    @rule(units=st.integers(1, 60), days=st.integers(0, 27), hours=st.integers(0, 23))
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
        assert (grant.granted_nanos >= held) == (held <= left), "a call was refused that could pay, or admitted that could not"
        charge = 0
        self.done["refused calls"] += grant.granted_nanos < held
        if grant.granted_nanos >= held:
            charge = self._settle(terms, units, held, budget.pk, self.month + timedelta(days=days, hours=hours))
        back = LeaseReturn(self.identity.id, budget.pk, grant.granted_nanos - charge)
        assert TakeLeasesBack(lambda: self.identity.id).write([back]) == [None]

    @precondition(lambda self: balance(self.account).available)
    @rule(units=st.lists(st.integers(1, 40), min_size=2, max_size=4), day=st.integers(0, 27))
    def calls(self, units: list[int], day: int) -> None:
        """Some calls, one after the other."""
        for hour, one in enumerate(units):
            self.call(one, day, hour)

    @precondition(lambda self: self.charges)
    @rule(pick=st.randoms(use_true_random=False))
    def refund_a_call(self, pick: Any) -> None:
        """A call is refunded, of this month or a closed one, told twice."""
        event = pick.choice(sorted(self.charges))
        for _ in range(2):
            refund_event(event, reason="test", by="test")
        del self.charges[event]
        self.done["refunded calls"] += 1

    @rule(shape=st.sampled_from(SHAPES), day=st.integers(1, 27))
    def change_the_price(self, shape: Shape, day: int) -> None:
        """A new price holds for the calls from now on."""
        self.price = self._set_price(shape, self.month + timedelta(days=day, seconds=self.seq, microseconds=self.names))

    @rule(days=st.integers(0, 31))
    def post(self, days: int) -> None:
        """Hours that are over are posted to the ledger."""
        self.done["postings"] += post_usage(now=self.month + timedelta(days=days), everything=True)

    @rule()
    def close_the_month(self) -> None:
        """The month is sealed, and asked for again."""
        _, ends_at = month_of(self.month)
        first = close_period(self.account, self.month, now=ends_at + CLOSE_AFTER)
        assert close_period(self.account, self.month, now=ends_at + CLOSE_AFTER) == first
        self.given += sum(
            CreditGrant.objects.filter(account=self.account, kind="rebate", reference__contains=first.number).values_list(
                "amount_nanos", flat=True
            )
        )
        self.month = ends_at
        self.done["invoice lines"] += first.lines.count()
        assert rederive_invoices() == []  # Each closed call comes to its charge again.
        rounded = first.total_cents * CENT + first.carried_out_nanos
        assert rounded == sum(first.lines.values_list("charge_nanos", flat=True)) + first.carried_in_nanos

    @precondition(lambda self: self._paid())
    @rule(pick=st.randoms(use_true_random=False), cents=st.integers(1, 900), ends_well=st.booleans())
    def repay(self, pick: Any, cents: int, *, ends_well: bool) -> None:
        """A payment is given back, as far as credit is left; the bank may send the money back again."""
        top_up = pick.choice(self._paid())
        now = balance(self.account)
        try:
            refund, _ = repaying.refund_top_up(top_up, cents, reason="test", reference=uuid7(), by="test")
        except (RefundTooLarge, PaymentsFrozen):
            return
        assert cents * CENT <= now.available
        state = RefundState(
            id=f"re_{refund.pk.hex}", status="succeeded" if ends_well else "failed", amount_cents=cents,
            payment=top_up.payment_id, reference=refund.pk,
        )  # fmt: skip
        for _ in range(2):
            repaying.apply_refund(state)
        self.given -= cents * CENT * ends_well
        self.done["repaid payments"] += 1

    @precondition(lambda self: self._paid())
    @rule(pick=st.randoms(use_true_random=False), end=st.sampled_from(["needs_response", "won", "lost"]))
    def dispute(self, pick: Any, end: str) -> None:
        """A payment is disputed, whatever of it was spent; told in any order, a won one gives its credit back."""
        top_up = pick.choice(self._paid())
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

    @invariant()
    def the_balance_is_what_was_given_less_what_calls_cost(self) -> None:
        """The account's own numbers against the model's."""
        now = balance(self.account)
        assert (now.granted, now.spent, now.held) == (self.given, sum(self.charges.values()), 0)

    @invariant()
    def the_books_are_clean(self) -> None:
        """Every balance against its facts; and the ledger as a whole sums to zero."""
        assert check_books() == []
        assert sum(LedgerEntry.objects.values_list("amount_nanos", flat=True)) == 0

    @invariant()
    def a_charge_is_the_providers_share_and_our_fee(self) -> None:
        """What was posted is split without rest."""
        rows = UsagePosting.objects.values_list("charge_nanos", "fee_nanos")
        assert ledger_balance(provider_account_name(self.payee)) == sum(charge - fee for charge, fee in rows)

    # ------------------------------------------------------------ Steps

    def _settle(self, terms: Any, units: int, held: int, budget_id: int, at: datetime) -> int:
        self.seq += 1
        event_id = uuid7()
        settlement = Settlement(
            process_id=self.identity.id, seq=self.seq, event_id=event_id, account_id=self.account.pk, price_id=terms.price_id, sku=SKU,
            unit="token", units=units, charge_nanos=0 if not terms.is_plain else units * terms.unit_nanos, livemode=True, source="key",
            occurred_at=at, replayable=False, budget_ids=[budget_id], terms=None if terms.is_plain else terms, held_nanos=held,
        )  # fmt: skip
        WriteSettlements(lambda: self.identity.id).write([settlement])
        self.charges[event_id] = settlement.charge_nanos
        self.done["calls"] += 1
        assert UsageEvent.objects.get(pk=event_id).charge_nanos == settlement.charge_nanos <= held
        return settlement.charge_nanos

    def _set_price(self, shape: Shape, at: datetime) -> Price:
        self.names += 1
        plain = shape.is_plain
        return Price.objects.create(
            sku=SKU,
            unit="token",
            unit_nanos=dearest_unit(shape),
            shape=None if plain else render_shape(shape),
            meter=METER,
            effective_from=at,
        )

    def _paid(self) -> list[TopUp]:
        return list(TopUp.objects.filter(account=self.account, status="paid").order_by("pk"))

    def _name(self) -> str:
        self.names += 1
        return f"machine {self.names}"


@pytest.mark.slow
@pytest.mark.timeout(0 if SEQUENCES > 1000 else 600)
@pytest.mark.django_db
def test_after_every_step_of_any_sequence_the_books_balance() -> None:
    checks = settings(
        max_examples=SEQUENCES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=SEQUENCES <= 1000,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Money, settings=checks)
    print(f"{SEQUENCES} sequences of up to {STEPS} steps; the books balanced after each: {dict(Money.done)}")
    assert Money.done["calls"] > SEQUENCES
    assert Money.done["invoice lines"]
