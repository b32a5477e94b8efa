"""Promise 2: no budget is overshot, and none is left unused, however many callers and processes ask at once.

Each round has a budget of its own, and callers who call until they are refused: in one process, or in several that
share the database. None is served that the budget cannot pay, and all are that it can.
"""

import asyncio
import multiprocessing
from collections import Counter
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError
from typing import Any, Final

from django.db import connections

from billing.books import check_books
from billing.errors import BudgetExceeded
from billing.leases import BudgetSpec
from billing.ledger import grant_credit, open_account
from billing.metering import Meter
from billing.models import Account, Budget, Lease, Price, UsageEvent
from billing.money import Nanos
from marketplace.proving.acts import UNIT_NANOS, call, make_price, open_rich_account, usage_of, whole_account, with_meter
from marketplace.proving.findings import Broken, require

CALLERS: Final = 64
WORTH: Final = 100
KINDS: Final = ("organization:day", "key:month", "key:total", "account")
_UNITS: Final = 10
LIMIT_NANOS: Final = WORTH * _UNITS * UNIT_NANOS
_ROUNDS: Final = 20
_PROCESSES: Final = 4
TRIED: Final = f"{CALLERS} callers x {_ROUNDS} rounds in {_PROCESSES} processes and again in 1, a cap worth {WORTH} calls"


class Round:
    """One round: whose budget it is, and what a call must fit in."""

    def __init__(self, number: int, account: Account) -> None:
        self.source = f"round-{number}"
        self.kind = KINDS[number % len(KINDS)]
        self.account = account
        if self.kind == "account":  # The balance itself is the cap.
            self.account = open_account(name=self.source)
            grant_credit(self.account, Nanos(LIMIT_NANOS), kind="operator", reference=self.source, by="prove")
        self.budgets = [whole_account(self.account)]
        if self.kind != "account":
            subject, interval = f"{self.kind}:{number}", self.kind.partition(":")[2]
            self.budgets.append(BudgetSpec(account_id=account.pk, subject=subject, interval=interval, limit_nanos=LIMIT_NANOS))

    @property
    def budget(self) -> Budget:
        """The budget that the round is about."""
        spec = self.budgets[-1]
        return Budget.objects.get(account_id=spec.account_id, subject=spec.subject)


async def _call_until_refused(meter: Meter, played: Round, price: Price) -> int:
    served = 0
    while True:
        usage = usage_of(played.account, price, units=_UNITS, source=played.source)
        try:
            await call(meter, played.budgets, usage)
        except BudgetExceeded:
            return served
        served += 1
        # Were nobody ever refused, the promise would be broken by now, and this would go on until the account is empty.
        require(served <= 2 * WORTH, f"one caller alone was served {served} calls of a cap worth {WORTH}")


def play(rounds: Sequence[Round], price: Price, *, callers: int = CALLERS, barrier: Barrier | None = None) -> list[int]:
    """Play all rounds with one meter; return how many calls each served here."""

    async def body(meter: Meter) -> list[int]:
        served = []
        for played in rounds:
            if barrier is not None:
                barrier.wait(120)  # All processes start a round at once. It is nobody's loop but ours.
            served.append(sum(await asyncio.gather(*(_call_until_refused(meter, played, price) for _ in range(callers)))))
        return served

    return with_meter(body)


def _play_in_child(rounds: Sequence[Round], price: Price, callers: int, barrier: Barrier, results: Any) -> None:
    try:
        results.put(play(rounds, price, callers=callers, barrier=barrier))
    except BaseException as error:
        barrier.abort()
        results.put(error)
        raise
    finally:
        connections.close_all()


def play_in_processes(rounds: Sequence[Round], price: Price, *, processes: int) -> list[int]:
    """Play in several processes that start each round together; return how many calls each round served.

    Raises:
        Broken: a caller was never refused.
    """
    connections.close_all()  # No socket and no file lock is shared.
    forks = multiprocessing.get_context("fork")
    barrier, results = forks.Barrier(processes), forks.Queue()
    children = [
        forks.Process(target=_play_in_child, args=(rounds, price, CALLERS // processes, barrier, results)) for _ in range(processes)
    ]
    for child in children:
        child.start()
    served = [results.get(timeout=500) for _ in children]
    for child in children:
        child.join(30)
    failed = [each for each in served if isinstance(each, BaseException)]
    if failed:  # What broke the promise, if anything did, else what broke the others' barriers.
        raise min(failed, key=lambda error: (not isinstance(error, Broken), isinstance(error, BrokenBarrierError)))
    return [sum(each) for each in zip(*served, strict=True)]


def check_rounds(rounds: Sequence[Round], served: Sequence[int]) -> None:
    """See that each round served exactly what its cap is worth, and that every counter says so.

    Raises:
        Broken: with how many were served too many or too few.
    """
    over, short = sum(count > WORTH for count in served), sum(count < WORTH for count in served)
    require(
        set(served) == {WORTH}, f"{over} rounds overshot, {short} fell short: {dict(sorted(Counter(served).items()))} calls served: rounds"
    )
    for played in rounds:
        budget = played.budget
        counters = (budget.limit_nanos, budget.spent_nanos, budget.leased_nanos)
        require(counters == (LIMIT_NANOS, LIMIT_NANOS, 0), f"{played.source} ({played.kind}): limit, spent and leased are {counters} nanos")
        events = UsageEvent.objects.filter(source=played.source).count()
        require(events == WORTH, f"{played.source} ({played.kind}): {events} calls are on record of {WORTH} served")
    require(not Lease.objects.exclude(amount_nanos=0).exists(), "money is still on lease after all have stopped")
    wrong = check_books()
    require(not wrong, f"the books: {wrong}")


def prove() -> str:
    """Try it, in several processes and in one; return what was seen."""
    account, price = open_rich_account(), make_price()
    rounds = [Round(number, account) for number in range(2 * _ROUNDS)]
    served = [*play_in_processes(rounds[:_ROUNDS], price, processes=_PROCESSES), *play(rounds[_ROUNDS:], price)]
    check_rounds(rounds, served)
    return f"{WORTH} served in each of {len(served)} rounds, 0 over, 0 short"
