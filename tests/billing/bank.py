"""A database and a committer that do what a test says, when it says so: for tests of the lease book alone."""

import asyncio
from collections import deque
from typing import Any
from uuid import UUID

from billing.errors import StorageUnavailable
from billing.groups import WriteKind
from billing.ids import uuid7
from billing.leases import BudgetSpec, LeaseBook
from billing.lending import GiveLeases, LeaseAsk, LeaseGrant, LeaseReturn, TakeLeasesBack, lease_size


class Bank:
    """The database, as far as the book can tell: budgets by subject, each change one step."""

    def __init__(self, **limits: int) -> None:
        self.limits = dict(limits)
        self.names = list(limits)
        self.spent = dict.fromkeys(limits, 0)
        self.leased = dict.fromkeys(limits, 0)

    def apply(self, item: Any) -> LeaseGrant | None:
        """Do what the commit thread would: lend, or take back."""
        if isinstance(item, LeaseReturn):
            self.leased[self.names[item.budget_id]] -= item.amount_nanos
            return None
        assert isinstance(item, LeaseAsk)
        name = item.subject
        if item.limit_nanos is not None:
            self.limits[name] = item.limit_nanos
        left = max(0, self.limits[name] - self.spent[name] - self.leased[name])
        amount = lease_size(item.amounts, free_nanos=item.free_nanos, left_nanos=left)
        self.leased[name] += amount
        return LeaseGrant(
            process_id=item.process_id,
            budget_id=self.names.index(name),
            granted_nanos=amount,
            limit_nanos=self.limits[name],
            spent_nanos=self.spent[name],
            left_nanos=left - amount,
        )


class SlowCommitter:
    """A committer whose writes happen when the test says so."""

    def __init__(self, bank: Bank) -> None:
        self.process_id: UUID = uuid7()
        self.bank = bank
        self.waiting: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self.asked = 0

    def submit(self, kind: WriteKind, item: object) -> "asyncio.Future[Any]":  # noqa: ARG002 (the committer's signature)
        """Queue a write."""
        self.asked += isinstance(item, LeaseAsk)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append((item, future))
        return future

    def commit_one(self) -> None:
        """Let the oldest write happen."""
        item, future = self.waiting.popleft()
        future.set_result(self.bank.apply(item))

    def fail_one(self) -> None:
        """Let the oldest write fail."""
        self.waiting.popleft()[1].set_exception(StorageUnavailable("locked"))


ACCOUNT = uuid7()
WIDE = BudgetSpec(account_id=ACCOUNT, subject="account", interval="total", limit_nanos=None)


def key_cap(limit_nanos: int) -> BudgetSpec:
    return BudgetSpec(account_id=ACCOUNT, subject="key", interval="month", limit_nanos=limit_nanos)


def book_on(committer: SlowCommitter) -> LeaseBook:
    return LeaseBook(committer, give=GiveLeases(lambda: committer.process_id), take_back=TakeLeasesBack(lambda: committer.process_id))


async def turn() -> None:
    """Let everything that can go on go on."""
    for _ in range(6):
        await asyncio.sleep(0)


async def drain(committer: SlowCommitter) -> None:
    await turn()
    while committer.waiting:
        committer.commit_one()
        await turn()
