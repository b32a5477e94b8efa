"""Promise 2: no budget is overshot, and none is left unused, however many callers and processes ask at once.

Each round has a budget of its own that is worth 100 calls, and 64 callers who call until they are refused:
in one process, and in four that share the database. Overshoot 0; exactly 100 are served.
"""

import asyncio
import multiprocessing
from collections import Counter
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
from django.db import connections

from billing.books import check_books
from billing.errors import BudgetExceeded
from billing.leases import BudgetSpec
from billing.ledger import grant_credit, open_account
from billing.metering import Meter
from billing.models import Account, Budget, Lease, Price, UsageEvent
from billing.money import Nanos
from tests.billing.facts import call, usage_of, whole_account, with_meter

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(600)]

CALLERS, ROUNDS, WORTH = 64, 200, 100
UNITS, CHARGE = 10, 2_000  # 200 nanos a token.
LIMIT = WORTH * CHARGE
KINDS = ("organization:day", "key:month", "key:total", "account")


class Round:
    """One round: whose budget it is, and what a call must fit in."""

    def __init__(self, number: int, account: Account) -> None:
        self.source = f"round-{number}"
        self.kind = KINDS[number % len(KINDS)]
        self.account = account
        if self.kind == "account":  # The balance itself is the cap.
            self.account = open_account(name=self.source)
            grant_credit(self.account, Nanos(LIMIT), kind="operator", reference=self.source, by="test")
        self.budgets = [whole_account(self.account)]
        if self.kind != "account":
            subject, interval = f"{self.kind}:{number}", self.kind.partition(":")[2]
            self.budgets.append(BudgetSpec(account_id=account.pk, subject=subject, interval=interval, limit_nanos=LIMIT))

    @property
    def budget(self) -> Budget:
        """The budget that the round is about."""
        spec = self.budgets[-1]
        return Budget.objects.get(account_id=spec.account_id, subject=spec.subject)


async def call_until_refused(meter: Meter, played: Round, price: Price) -> int:
    """Call until there is nothing left; return how many calls were served."""
    served = 0
    while True:
        usage = usage_of(played.account, price, units=UNITS, source=played.source)
        try:
            await call(meter, played.budgets, usage)
        except BudgetExceeded:
            return served
        served += 1


def play(rounds: list[Round], price: Price, callers: int, barrier: Barrier | None) -> list[int]:
    """Play all rounds with one meter; return how many calls each served here."""

    async def body(meter: Meter) -> list[int]:
        served = []
        for played in rounds:
            if barrier is not None:
                barrier.wait(120)  # All processes start a round at once. It is nobody's loop but ours.
            served.append(sum(await asyncio.gather(*(call_until_refused(meter, played, price) for _ in range(callers)))))
        return served

    return with_meter(body)


def play_in_child(rounds: list[Round], price: Price, callers: int, barrier: Barrier, results: Any) -> None:
    """Play in a process of its own, with connections of its own."""
    try:
        results.put(play(rounds, price, callers, barrier))
    finally:
        connections.close_all()


def play_in_processes(rounds: list[Round], price: Price, processes: int) -> list[int]:
    """Play in several processes that start each round together; return how many calls each round served."""
    connections.close_all()  # No socket and no file lock is shared.
    forks = multiprocessing.get_context("fork")
    barrier, results = forks.Barrier(processes), forks.Queue()
    children = [forks.Process(target=play_in_child, args=(rounds, price, CALLERS // processes, barrier, results)) for _ in range(processes)]
    for child in children:
        child.start()
    served = [results.get(timeout=500) for _ in children]
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    return [sum(each) for each in zip(*served, strict=True)]


@pytest.mark.parametrize("processes", [1, 4])
def test_64_callers_at_once_are_served_exactly_what_the_cap_is_worth(account: Account, price: Price, processes: int) -> None:
    rounds = [Round(number, account) for number in range(ROUNDS)]

    served = play(rounds, price, CALLERS, None) if processes == 1 else play_in_processes(rounds, price, processes)

    assert Counter(served) == {WORTH: ROUNDS}
    for played in rounds:
        budget = played.budget
        assert (budget.limit_nanos, budget.spent_nanos, budget.leased_nanos) == (LIMIT, LIMIT, 0), played.kind
        assert UsageEvent.objects.filter(source=played.source).count() == WORTH
    assert not Lease.objects.exclude(amount_nanos=0).exists()
    assert check_books() == []
