"""Promise 3: the books balance. Any sequence of what can happen to money, checked after each step.

A rule-based state machine over `marketplace/proving/books.py`, which holds the steps and the checks; what fails is shrunk
to the shortest sequence that does. `make state-machine` runs 10,000 sequences; the suite some dozens.
"""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from billing.ledger import balance
from billing.pricing import Shape
from marketplace.proving.books import SHAPES, STEPS, Money

SEQUENCES = int(os.environ.get("SEQUENCES", "25"))


class Machine(RuleBasedStateMachine):
    """What can happen, in any order, and what must hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.money = Money()

    def teardown(self) -> None:
        """Forget everything."""
        self.money.end()

    @rule(cents=st.integers(1, 2000))
    def grant(self, cents: int) -> None:
        """The operator gives credit, told twice."""
        self.money.grant(cents)

    @rule(cents=st.integers(50, 3000), repeats=st.integers(1, 2))
    def top_up(self, cents: int, repeats: int) -> None:
        """A payment comes in, and is heard of once or twice."""
        self.money.top_up(cents, repeats)

    @rule(units=st.integers(1, 60), days=st.integers(0, 27), hours=st.integers(0, 23))
    def call(self, units: int, days: int, hours: int) -> None:
        """A call is admitted if its highest charge can be held, and settles at its place in the month."""
        self.money.call(units, days, hours)

    @precondition(lambda self: balance(self.money.account).available)
    @rule(units=st.lists(st.integers(1, 40), min_size=2, max_size=4), day=st.integers(0, 27))
    def calls(self, units: list[int], day: int) -> None:
        """Some calls, one after the other."""
        self.money.calls(units, day)

    @precondition(lambda self: self.money.charges)
    @rule(pick=st.randoms(use_true_random=False))
    def refund_a_call(self, pick: Any) -> None:
        """A call is refunded, of this month or a closed one, told twice."""
        self.money.refund_a_call(pick)

    @rule(shape=st.sampled_from(SHAPES), day=st.integers(1, 27))
    def change_the_price(self, shape: Shape, day: int) -> None:
        """A new price holds for the calls from now on."""
        self.money.change_the_price(shape, day)

    @rule(days=st.integers(0, 31))
    def post(self, days: int) -> None:
        """Hours that are over are posted to the ledger."""
        self.money.post(days)

    @rule()
    def close_the_month(self) -> None:
        """The month is sealed, and asked for again."""
        self.money.close_the_month()

    @precondition(lambda self: self.money.paid())
    @rule(pick=st.randoms(use_true_random=False), cents=st.integers(1, 900), ends_well=st.booleans())
    def repay(self, pick: Any, cents: int, *, ends_well: bool) -> None:
        """A payment is given back, as far as credit is left; the bank may send the money back again."""
        self.money.repay(pick, cents, ends_well=ends_well)

    @precondition(lambda self: self.money.paid())
    @rule(pick=st.randoms(use_true_random=False), end=st.sampled_from(["needs_response", "won", "lost"]))
    def dispute(self, pick: Any, end: str) -> None:
        """A payment is disputed, whatever of it was spent; told in any order, a won one gives its credit back."""
        self.money.dispute(pick, end)

    @invariant()
    def all_holds(self) -> None:
        """The balance, the books and the ledger."""
        self.money.check()


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
    run_state_machine_as_test(Machine, settings=checks)
    print(f"{SEQUENCES} sequences of up to {STEPS} steps; the books balanced after each: {dict(Money.done)}")
    assert Money.done["calls"] > SEQUENCES
    assert Money.done["invoice lines"]
