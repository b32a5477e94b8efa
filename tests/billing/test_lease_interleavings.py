"""No interleaving of calls, commits, hang-ups and ticks overshoots a budget."""

import asyncio

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from billing.leases import Hold
from tests.billing.bank import WIDE, Bank, SlowCommitter, book_on, key_cap, turn


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
