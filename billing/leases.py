"""The process's side of leases: hold money for calls, in memory, out of what was leased.

A call must hold its highest charge on every budget before it runs. The lease of each budget is
money that the database has set aside for this process (`lending.py`); holding from it takes no
round trip. Everything here runs on the event loop's thread, so no step is interrupted by another.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from math import inf
from typing import Any, Final, Protocol
from uuid import UUID

from billing.errors import BudgetExceeded, ProcessFenced
from billing.groups import WriteKind
from billing.lending import GiveLeases, LeaseAsk, LeaseGrant, LeaseReturn, TakeLeasesBack
from billing.periods import period_of

# For so long after the database said "nothing left" more callers are refused without asking it
# again: an exhausted key in a loop must not cost a commit per call. New credit counts this much later.
_EXHAUSTED_S: Final = 0.1
# Money that no call took for one to two of these goes back, so that other processes can lend it.
TICK_S: Final = 0.5
# With less than this many calls' money left, more is asked for while calls go on; only where the budget
# has eight leases more, so that near its limit nothing is kept from other processes that no call waits for.
_REFILL_BELOW_CALLS: Final = 50
_REFILL_ABOVE_CALLS: Final = 800
# Ticks after which an empty, unused lease is forgotten.
_FORGET_AFTER_TICKS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpec:
    """A budget that a call must fit in, as its caller's control data names it."""

    account_id: UUID
    subject: str  # "account", or the opaque name of a narrower budget: "key:<id>".
    interval: str  # "day", "month" or "total".
    limit_nanos: int | None  # None: the row's own, raised by grants. A number: the cap for each period.
    # The first moment of a period that is over, of whose budget is taken; None: the present one.
    past: datetime | None = None
    key: str = field(init=False, compare=False)  # Hashed once, not per call.

    def __post_init__(self) -> None:
        past = "" if self.past is None else f"/{self.past:%Y%m%d}"
        object.__setattr__(self, "key", f"{self.account_id.hex}/{self.subject}{past}")


class Submitter(Protocol):
    """What the book needs of the committer."""

    process_id: UUID

    def submit(self, kind: WriteKind, item: object) -> "asyncio.Future[Any]":
        """Queue one write; the future brings its result once it is durable."""
        ...


class _Lease:
    """What this process has of one budget in one period. `free` plus `held` is the row's amount."""

    __slots__ = (
        "asking", "budget_id", "ends_at", "ends_unix", "exhausted_until", "free", "held", "idle_ticks", "is_lost", "left",
        "limit", "spec", "spent", "starts_at", "waiters", "was_used",
    )  # fmt: skip

    def __init__(self, spec: BudgetSpec, *, starts_at: datetime, ends_at: datetime | None) -> None:
        self.spec = spec
        self.starts_at, self.ends_at = starts_at, ends_at
        self.ends_unix = inf if ends_at is None or spec.past is not None else ends_at.timestamp()
        self.budget_id: int | None = None
        self.free = 0  # Nanos that no call holds.
        self.held = 0
        self.waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.asking = False  # One request at a time, for all who wait.
        self.is_lost = False  # The process was reclaimed: the money is no longer ours.
        self.was_used = True
        self.idle_ticks = 0
        # What the database last said of the budget.
        self.limit = self.spent = self.left = 0
        self.exhausted_until = 0.0  # Monotonic seconds.


class _State(Enum):
    HELD = auto()
    SETTLING = auto()
    ENDED = auto()


class Hold:
    """Money set aside for one call. Settled or released exactly once; a second time does nothing."""

    __slots__ = ("_leases", "_state", "amount_nanos", "quota")

    def __init__(self, leases: Sequence[_Lease], amount_nanos: int) -> None:
        self._leases = leases
        self._state = _State.HELD
        self.amount_nanos = amount_nanos
        self.quota: Hold | None = None  # Units of a plan's hard quota, held with the money and ended with it.

    @property
    def quota_ids(self) -> list[int]:
        """The budget whose amounts are units that it is held on, if there is one."""
        return [] if self.quota is None else self.quota.budget_ids

    @property
    def budget_ids(self) -> list[int]:
        """The budgets of money that it is held on."""
        return [lease.budget_id for lease in self._leases if lease.budget_id is not None]

    def release(self) -> None:
        """Give the money back to the leases. While a settlement is on its way, that decides instead."""
        if self._state is _State.HELD:
            self._end(charge_nanos=0)
            if self.quota is not None:
                self.quota.release()

    def start_settling(self) -> None:
        """Keep the money until `end_settling`, whoever releases meanwhile.

        Raises:
            ProcessFenced: the money is no longer this process's.
            ValueError: it was released or settled before.
        """
        if self._state is not _State.HELD:
            message = "A hold is settled once, and before it is released."
            raise ValueError(message)
        for lease in self._leases:
            if lease.is_lost:
                message = "The leases were given back."
                raise ProcessFenced(message)
        if self.quota is not None:
            self.quota.start_settling()
        self._state = _State.SETTLING

    def end_settling(self, *, charge_nanos: int, units: int = 0) -> None:
        """Take the charge and the units out of the leases and give the rest back; 0 when nothing was charged."""
        if self._state is _State.SETTLING:
            self._end(charge_nanos=charge_nanos)
            if self.quota is not None:
                self.quota.end_settling(charge_nanos=units)

    def _end(self, *, charge_nanos: int) -> None:
        self._state = _State.ENDED
        for lease in self._leases:
            lease.held -= self.amount_nanos
            lease.free += self.amount_nanos - charge_nanos


class LeaseBook:
    """All leases of this process."""

    def __init__(self, committer: Submitter, *, give: GiveLeases, take_back: TakeLeasesBack) -> None:
        self._committer = committer
        self._give, self._take_back = give, take_back
        self._leases: dict[str, _Lease] = {}
        self._over: list[_Lease] = []  # Of periods that ended, until nothing is held on them.

    async def hold(self, budgets: Sequence[BudgetSpec], amount_nanos: int) -> Hold:
        """Set money aside on every budget; without waiting where the leases suffice.

        Args:
            budgets: From the widest to the narrowest. None, or an amount of 0, holds nothing.
            amount_nanos: The most that the call can cost.

        Raises:
            BudgetExceeded: a budget has too little left. Nothing is held on any.
            StorageUnavailable: a lease had to be asked for, and the database cannot be written.
        """
        if amount_nanos == 0:
            return Hold((), 0)
        now = time.time()
        leases = [self._lease_for(spec, now) for spec in budgets]
        for lease in leases:
            if lease.free < amount_nanos or lease.waiters:
                await self._take_each(leases, amount_nanos)
                break
        else:
            for lease in leases:
                _take(lease, amount_nanos)
                if lease.free < _REFILL_BELOW_CALLS * amount_nanos and not lease.asking and lease.left > _REFILL_ABOVE_CALLS * amount_nanos:
                    self._ask(lease, refill_nanos=amount_nanos)
        return Hold(leases, amount_nanos)

    def tick(self) -> None:
        """Give back what no call took since the last tick. Called every `TICK_S`."""
        now = time.time()
        for key, lease in list(self._leases.items()):
            if now >= lease.ends_unix:
                self._over.append(self._leases.pop(key))
                continue
            if lease.was_used or lease.waiters or lease.asking:
                lease.was_used, lease.idle_ticks = False, 0
                continue
            self._give_back_free(lease)
            lease.idle_ticks += 1
            if lease.idle_ticks > _FORGET_AFTER_TICKS and not lease.held and not lease.free:
                del self._leases[key]
        for lease in self._over:
            self._give_back_free(lease)
        self._over = [lease for lease in self._over if lease.held or lease.waiters or lease.asking]

    def forget_all(self) -> None:
        """Drop every lease: the process was taken for dead, and its money given back.

        Calls that run keep their Hold, but cannot settle it: they get ProcessFenced.
        """
        for lease in (*self._leases.values(), *self._over):
            lease.is_lost = True
            refusal = ProcessFenced("The leases were given back.")
            while lease.waiters:
                _, future = lease.waiters.popleft()
                if not future.done():
                    future.set_exception(refusal)
        self._leases.clear()
        self._over.clear()

    def held_nanos(self) -> int:
        """Return what all running calls hold, each budget counted: for the metric."""
        return sum(lease.held for lease in (*self._leases.values(), *self._over))

    def _lease_for(self, spec: BudgetSpec, now: float) -> _Lease:
        lease = self._leases.get(spec.key)
        if lease is None or now >= lease.ends_unix:
            if lease is not None:
                self._over.append(lease)
            starts_at, ends_at = period_of(spec.interval, spec.past or datetime.fromtimestamp(now, UTC))
            lease = self._leases[spec.key] = _Lease(spec, starts_at=starts_at, ends_at=ends_at)
        elif lease.spec.limit_nanos != spec.limit_nanos:
            # The cap was changed. What is free was leased under the old one and goes back; the
            # next ask brings the new limit to the row.
            lease.spec, lease.exhausted_until = spec, 0.0
            self._give_back_free(lease)
        return lease

    async def _take_each(self, leases: Sequence[_Lease], amount: int) -> None:
        """Take the amount from all leases or none, asking the database where they are short.

        The narrowest first: who fails on a wide budget would only have kept money from callers
        who fail there, too; the other way round, calls of a capped key would for a moment hold
        an account's last money and get its other keys refused.
        """
        taken: list[_Lease] = []
        try:
            for lease in reversed(leases):
                await self._take_or_wait(lease, amount)
                taken.append(lease)
        except BaseException:
            for lease in taken:
                _put_back(lease, amount)
            raise

    async def _take_or_wait(self, lease: _Lease, amount: int) -> None:
        if lease.free >= amount and not lease.waiters:
            _take(lease, amount)
            return
        if amount > lease.free + lease.left and time.monotonic() < lease.exhausted_until:
            raise _exceeded(lease, amount)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lease.waiters.append((amount, future))
        if not lease.asking:
            self._ask(lease)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                _put_back(lease, amount)  # It was granted in the moment that the caller went away.
            raise

    def _ask(self, lease: _Lease, *, refill_nanos: int = 0) -> None:
        """Ask the database for what all who wait need; or, before anybody has to wait, for calls of so many nanos."""
        lease.asking = True
        ask = LeaseAsk(
            process_id=self._committer.process_id,
            account_id=lease.spec.account_id,
            subject=lease.spec.subject,
            interval=lease.spec.interval,
            starts_at=lease.starts_at,
            ends_at=lease.ends_at,
            limit_nanos=lease.spec.limit_nanos,
            budget_id=lease.budget_id,
            amounts=(refill_nanos,) if refill_nanos else tuple(amount for amount, _ in lease.waiters),
            free_nanos=0 if refill_nanos else lease.free,
        )
        self._committer.submit(self._give, ask).add_done_callback(lambda done: self._answered(lease, done))

    def _answered(self, lease: _Lease, done: "asyncio.Future[LeaseGrant]") -> None:
        """Serve those who wait with what was granted; refuse those for whom nothing is left."""
        lease.asking = False
        if lease.is_lost:
            return
        error = done.exception()
        if error is not None:
            while lease.waiters:
                _, future = lease.waiters.popleft()
                if not future.done():
                    future.set_exception(error)
            return
        grant = done.result()
        lease.budget_id = grant.budget_id
        lease.free += grant.granted_nanos
        lease.limit, lease.spent, lease.left = grant.limit_nanos, grant.spent_nanos, grant.left_nanos
        self._serve(lease)

    def _serve(self, lease: _Lease) -> None:
        while lease.waiters:
            amount, future = lease.waiters[0]
            if not future.done():
                if amount <= lease.free:
                    _take(lease, amount)
                    future.set_result(None)
                elif amount > lease.free + lease.left:
                    lease.exhausted_until = time.monotonic() + _EXHAUSTED_S
                    future.set_exception(_exceeded(lease, amount))
                else:  # Came after the question was sent, or another took its money: ask again.
                    self._ask(lease)
                    return
            lease.waiters.popleft()

    def _give_back_free(self, lease: _Lease) -> None:
        if lease.free <= 0 or lease.budget_id is None or lease.is_lost:
            return
        amount, lease.free = lease.free, 0
        lease.exhausted_until = 0.0
        item = LeaseReturn(self._committer.process_id, lease.budget_id, amount)
        self._committer.submit(self._take_back, item).add_done_callback(lambda done: _returned(lease, amount, done))


def _take(lease: _Lease, amount: int) -> None:
    lease.free -= amount
    lease.held += amount
    lease.was_used = True


def _put_back(lease: _Lease, amount: int) -> None:
    lease.free += amount
    lease.held -= amount


def _returned(lease: _Lease, amount: int, done: "asyncio.Future[None]") -> None:
    """Keep the money where it could not be given back; a later tick tries again."""
    if not done.cancelled() and done.exception() is not None:
        lease.free += amount


def _exceeded(lease: _Lease, amount: int) -> BudgetExceeded:
    return BudgetExceeded(
        subject=lease.spec.subject,
        limit_nanos=lease.limit,
        spent_nanos=lease.spent,
        left_nanos=lease.free + lease.left,
        asked_nanos=amount,
        resets_at=None if lease.spec.past else lease.ends_at,
    )
