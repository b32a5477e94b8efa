"""Tests of the lease book: what a process may hold, and that no interleaving overshoots."""

import asyncio
from collections import deque
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from billing.errors import BudgetExceeded, ProcessFenced, StorageUnavailable
from billing.groups import WriteKind
from billing.ids import uuid7
from billing.leases import BudgetSpec, Hold, LeaseBook
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


class Interleavings(RuleBasedStateMachine):
    """Two processes, an account and a capped key, calls of all sizes, in any order."""

    LIMITS = {"account": 1000, "key": 400}

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    @initialize()
    def open(self) -> None:
        """Start with two processes and nothing spent."""
        self.bank = Bank(**self.LIMITS)
        self.committers = [SlowCommitter(self.bank), SlowCommitter(self.bank)]
        self.books = [book_on(committer) for committer in self.committers]
        self.asking: list[tuple[asyncio.Task[Hold], bool, int]] = []
        self.held: list[tuple[Hold, bool, int]] = []
        self.cap = key_cap(self.LIMITS["key"])

    def teardown(self) -> None:
        """Let nobody wait for ever."""
        for task, _, _ in getattr(self, "asking", []):
            task.cancel()
        self.loop.run_until_complete(turn())
        self.loop.close()

    def settle_asked(self) -> None:
        """Collect the holds that were given meanwhile."""
        self.loop.run_until_complete(turn())
        still = []
        for task, with_key, amount in self.asking:
            if not task.done():
                still.append((task, with_key, amount))
            elif not task.cancelled() and task.exception() is None:
                self.held.append((task.result(), with_key, amount))
        self.asking = still

    @rule(process=st.integers(0, 1), amount=st.integers(1, 130), with_key=st.booleans())
    def ask(self, process: int, amount: int, *, with_key: bool) -> None:
        """A call asks one process for money."""
        budgets = [WIDE, self.cap] if with_key else [WIDE]
        self.asking.append((self.loop.create_task(self.books[process].hold(budgets, amount)), with_key, amount))
        self.settle_asked()

    @precondition(lambda self: any(committer.waiting for committer in self.committers))
    @rule(process=st.integers(0, 1))
    def commit(self, process: int) -> None:
        """One process's oldest write happens."""
        if self.committers[process].waiting:
            self.committers[process].commit_one()
        self.settle_asked()

    @precondition(lambda self: self.asking)
    @rule(which=st.integers(0, 100))
    def hang_up(self, which: int) -> None:
        """A caller that waits goes away."""
        self.asking[which % len(self.asking)][0].cancel()
        self.settle_asked()

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 100))
    def release(self, which: int) -> None:
        """A call fails."""
        hold, _, _ = self.held.pop(which % len(self.held))
        hold.release()
        hold.release()

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 100), part=st.integers(0, 100))
    def settle(self, which: int, part: int) -> None:
        """A call is charged a part of what it held."""
        hold, with_key, amount = self.held.pop(which % len(self.held))
        charge = amount * part // 100
        hold.start_settling()
        for name in ("account", "key") if with_key else ("account",):
            self.bank.leased[name] -= charge
            self.bank.spent[name] += charge
        hold.release()  # Does nothing: the settlement decides.
        hold.end_settling(charge_nanos=charge)

    @rule(process=st.integers(0, 1))
    def tick(self, process: int) -> None:
        """Half a second passes for one process."""

        async def run() -> None:
            self.books[process].tick()

        self.loop.run_until_complete(run())
        self.settle_asked()

    @invariant()
    def nothing_is_overshot(self) -> None:
        """No budget is overshot, and no process uses more than it leased."""
        if not hasattr(self, "bank"):
            return
        held = {"account": 0, "key": 0}
        for _, with_key, amount in self.held:
            held["account"] += amount
            held["key"] += amount if with_key else 0
        for name, limit in self.LIMITS.items():
            assert self.bank.spent[name] + self.bank.leased[name] <= limit
            assert held[name] <= self.bank.leased[name]
            assert self.bank.spent[name] + held[name] <= limit


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_hold_waits_for_nothing_while_the_lease_suffices() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=10**6))
        book = book_on(committer)
        first = asyncio.ensure_future(book.hold([WIDE], 10))
        await drain(committer)
        await first
        for _ in range(99):
            coroutine = book.hold([WIDE], 10)
            with pytest.raises(StopIteration):
                coroutine.send(None)  # It ends without having waited.
        assert committer.asked == 1

    asyncio.run(run())


def test_64_at_once_share_one_question() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=10**6))
        book = book_on(committer)
        calls = [asyncio.ensure_future(book.hold([WIDE], 10)) for _ in range(64)]
        await drain(committer)
        assert len(await asyncio.gather(*calls)) == 64
        assert committer.asked == 1  # Far from the limit the first one's lease is worth a hundred calls.

    asyncio.run(run())


def test_of_64_at_once_exactly_as_many_are_served_as_the_budget_affords() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=105))
        book = book_on(committer)
        calls = [asyncio.ensure_future(book.hold([WIDE], 10)) for _ in range(64)]
        await drain(committer)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(outcome, Hold) for outcome in outcomes) == 10
        refusal = next(outcome for outcome in outcomes if isinstance(outcome, BudgetExceeded))
        assert (refusal.subject, refusal.limit_nanos, refusal.left_nanos, refusal.asked_nanos) == ("account", 105, 5, 10)
        assert refusal.resets_at is None

    asyncio.run(run())


def test_a_small_call_is_served_where_a_large_one_before_it_did_not_fit() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=50))
        book = book_on(committer)
        large, small = asyncio.ensure_future(book.hold([WIDE], 60)), asyncio.ensure_future(book.hold([WIDE], 50))
        await drain(committer)
        outcomes = await asyncio.gather(large, small, return_exceptions=True)
        assert isinstance(outcomes[0], BudgetExceeded)
        assert isinstance(outcomes[1], Hold)

    asyncio.run(run())


def test_a_refusal_by_one_budget_holds_nothing_on_the_other() -> None:
    async def run() -> None:
        bank = Bank(account=5, key=1000)
        committer = SlowCommitter(bank)
        book = book_on(committer)
        call = asyncio.ensure_future(book.hold([WIDE, key_cap(1000)], 10))
        await drain(committer)
        with pytest.raises(BudgetExceeded) as refused:
            await call
        assert refused.value.subject == "account"
        assert book.held_nanos() == 0

    asyncio.run(run())


def test_a_capped_keys_refused_call_takes_nothing_from_the_accounts_last_money() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=10, key=0))
        book = book_on(committer)
        capped = asyncio.ensure_future(book.hold([WIDE, key_cap(0)], 10))
        free = asyncio.ensure_future(book.hold([WIDE], 10))
        await drain(committer)
        outcomes = await asyncio.gather(capped, free, return_exceptions=True)
        assert isinstance(outcomes[0], BudgetExceeded)
        assert isinstance(outcomes[1], Hold)

    asyncio.run(run())


def test_an_exhausted_budget_is_not_asked_about_for_each_call() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=5))
        book = book_on(committer)
        for _ in range(50):
            call = asyncio.ensure_future(book.hold([WIDE], 10))
            await drain(committer)
            with pytest.raises(BudgetExceeded):
                await call
        assert committer.asked == 1

    asyncio.run(run())


def test_idle_money_goes_back_and_used_money_stays() -> None:
    async def run() -> None:
        bank = Bank(account=10**6)
        committer = SlowCommitter(bank)
        book = book_on(committer)
        call = asyncio.ensure_future(book.hold([WIDE], 10))
        await drain(committer)
        hold = await call
        book.tick()
        await drain(committer)
        assert bank.leased["account"] == 1000  # It was used since the last tick.
        book.tick()
        await drain(committer)
        assert bank.leased["account"] == 10  # What the call holds.
        hold.release()
        book.tick()
        await drain(committer)
        assert bank.leased["account"] == 0

    asyncio.run(run())


def test_money_that_could_not_be_given_back_is_kept_and_tried_again() -> None:
    async def run() -> None:
        bank = Bank(account=10**6)
        committer = SlowCommitter(bank)
        book = book_on(committer)
        call = asyncio.ensure_future(book.hold([WIDE], 10))
        await drain(committer)
        (await call).release()
        book.tick()
        book.tick()
        await turn()
        committer.fail_one()
        await turn()
        assert bank.leased["account"] == 1000
        book.tick()
        await drain(committer)
        assert bank.leased["account"] == 0

    asyncio.run(run())


def test_a_lowered_cap_gives_back_what_was_leased_under_the_old_one() -> None:
    async def run() -> None:
        bank = Bank(key=10**6)
        committer = SlowCommitter(bank)
        book = book_on(committer)
        call = asyncio.ensure_future(book.hold([key_cap(10**6)], 10))
        await drain(committer)
        await call
        lowered = asyncio.ensure_future(book.hold([key_cap(15)], 10))
        await drain(committer)
        with pytest.raises(BudgetExceeded) as refused:
            await lowered
        assert (refused.value.limit_nanos, refused.value.left_nanos) == (15, 5)
        assert bank.leased["key"] == 10

    asyncio.run(run())


def test_a_new_month_is_a_new_budget_and_the_old_holds_stay_with_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        now = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC).timestamp()
        monkeypatch.setattr("billing.leases.time.time", lambda: now)
        bank = Bank(key=1000)
        committer = SlowCommitter(bank)
        asked: list[datetime] = []
        apply = bank.apply

        def noted(item: Any) -> LeaseGrant | None:
            if isinstance(item, LeaseAsk):
                asked.append(item.starts_at)
            return apply(item)

        monkeypatch.setattr(bank, "apply", noted)
        book = book_on(committer)
        november = asyncio.ensure_future(book.hold([key_cap(1000)], 10))
        await drain(committer)
        now += 2
        december = asyncio.ensure_future(book.hold([key_cap(1000)], 10))
        await drain(committer)
        assert asked == [datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)]
        (await november).release()
        book.tick()
        await drain(committer)
        assert book.held_nanos() == (await december).amount_nanos

    asyncio.run(run())


def test_a_caller_who_goes_away_while_waiting_leaves_nothing_held() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=100))
        book = book_on(committer)
        gone, stays = asyncio.ensure_future(book.hold([WIDE], 60)), asyncio.ensure_future(book.hold([WIDE], 60))
        await turn()
        committer.commit_one()
        gone.cancel()  # In the very moment that it is served.
        await drain(committer)
        assert isinstance(await stays, Hold)
        assert book.held_nanos() == 60

    asyncio.run(run())


def test_a_failed_write_refuses_all_who_wait() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=100))
        book = book_on(committer)
        calls = [asyncio.ensure_future(book.hold([WIDE], 10)) for _ in range(3)]
        await turn()
        committer.fail_one()
        assert all(isinstance(outcome, StorageUnavailable) for outcome in await asyncio.gather(*calls, return_exceptions=True))
        assert book.held_nanos() == 0

    asyncio.run(run())


def test_a_hold_on_lost_leases_cannot_be_settled() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=1000))
        book = book_on(committer)
        call = asyncio.ensure_future(book.hold([WIDE], 10))
        await drain(committer)
        hold = await call
        waiting = asyncio.ensure_future(book.hold([WIDE], 900))
        await turn()
        book.forget_all()
        with pytest.raises(ProcessFenced):
            hold.start_settling()
        with pytest.raises(ProcessFenced):
            await waiting
        hold.release()
        assert book.held_nanos() == 0

    asyncio.run(run())


def test_a_hold_is_settled_once() -> None:
    async def run() -> None:
        book = book_on(SlowCommitter(Bank(account=0)))
        hold = await book.hold([], 10)
        hold.start_settling()
        hold.end_settling(charge_nanos=10)
        with pytest.raises(ValueError, match="once"):
            hold.start_settling()

    asyncio.run(run())
