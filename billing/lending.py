"""The database's side of leases: give a process a part of a budget, and take back what it leaves."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.backends.utils import CursorWrapper

from billing.errors import ProcessFenced
from billing.sql import time_value, uuid_value

# Far from the limit a lease is worth this many calls: one round trip per hundred, and what a
# process keeps from the others stays small.
_CALLS_PER_LEASE: Final = 100
# ... but at most this part of what is left, so that leases shrink to single calls at the limit.
_LARGEST_SHARE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseAsk:
    """A process asks for money from one budget, for the calls that wait for it."""

    process_id: UUID
    account_id: UUID
    subject: str
    interval: str
    starts_at: datetime
    ends_at: datetime | None
    limit_nanos: int | None  # None: the row's own. A number: the row is made and updated to it.
    budget_id: int | None  # Where it is known already.
    amounts: Sequence[int]  # What each waiting call needs, in the order of their coming.
    free_nanos: int  # What the process has left of its lease.


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseGrant:
    """The answer: what was added to the lease, and the budget's state after it."""

    process_id: UUID
    budget_id: int | None  # None: there is no such budget.
    granted_nanos: int
    limit_nanos: int
    spent_nanos: int
    left_nanos: int  # Neither spent nor leased to anybody.


@dataclass(frozen=True, slots=True)
class LeaseReturn:
    """A process gives back money that no call holds."""

    process_id: UUID
    budget_id: int
    amount_nanos: int


class GiveLeases:
    """Writes asks. Each result is a LeaseGrant, of 0 nanos where nothing was left."""

    order: Final = 20

    def __init__(self, writing_as: Callable[[], UUID]) -> None:
        """`writing_as` returns the id that the process has on the commit thread."""
        self._writing_as = writing_as

    def write(self, items: Sequence[LeaseAsk]) -> list[LeaseGrant | ProcessFenced]:
        """Write inside the committer's transaction."""
        me = self._writing_as()
        with connection.cursor() as cursor:
            return [_give(cursor, ask) if ask.process_id == me else _fenced(ask.process_id) for ask in items]

    def budget_ids(self, items: Iterable[LeaseAsk]) -> list[int]:
        """Return the budgets to lock beforehand; rows used for the first time are opened for that.

        In one order, before any row is locked: two processes that open the same rows wait for
        each other's inserts.
        """
        ids = [ask.budget_id for ask in items if ask.budget_id is not None]
        new = [ask for ask in items if ask.budget_id is None]
        if new:
            with connection.cursor() as cursor:
                found = [_find_or_open(cursor, ask) for ask in sorted(new, key=lambda ask: (ask.account_id, ask.subject))]
            ids += [budget_id for budget_id in found if budget_id is not None]
        return ids


class TakeLeasesBack:
    """Writes returns. Before asks, so that others in the same group find the money."""

    order: Final = 10

    def __init__(self, writing_as: Callable[[], UUID]) -> None:
        """`writing_as` returns the id that the process has on the commit thread."""
        self._writing_as = writing_as

    def write(self, items: Sequence[LeaseReturn]) -> list[ProcessFenced | None]:
        """Write inside the committer's transaction."""
        me = self._writing_as()
        own = [item for item in items if item.process_id == me]
        with connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE billing_budget SET leased_nanos = leased_nanos - %s WHERE id = %s",
                [(item.amount_nanos, item.budget_id) for item in own],
            )
            cursor.executemany(
                "UPDATE billing_lease SET amount_nanos = amount_nanos - %s WHERE budget_id = %s AND process_id = %s",
                [(item.amount_nanos, item.budget_id, uuid_value(item.process_id)) for item in own],
            )
        return [None if item.process_id == me else _fenced(item.process_id) for item in items]

    def budget_ids(self, items: Iterable[LeaseReturn]) -> list[int]:
        """Return the budgets to lock beforehand."""
        return [item.budget_id for item in items]


def _fenced(process_id: UUID) -> ProcessFenced:
    return ProcessFenced(f"The process {process_id} was reclaimed, and its leases with it.")


def _give(cursor: CursorWrapper, ask: LeaseAsk) -> LeaseGrant:
    """Lease what the waiting calls need and the budget has; more where there is plenty."""
    budget_id = ask.budget_id if ask.budget_id is not None else _find_or_open(cursor, ask)
    if budget_id is None:
        return LeaseGrant(process_id=ask.process_id, budget_id=None, granted_nanos=0, limit_nanos=0, spent_nanos=0, left_nanos=0)
    if ask.limit_nanos is not None:
        cursor.execute(
            "UPDATE billing_budget SET limit_nanos = %s WHERE id = %s AND limit_nanos <> %s",
            [ask.limit_nanos, budget_id, ask.limit_nanos],
        )
    limit, spent, left = _read(cursor, budget_id)
    amount = lease_size(ask.amounts, free_nanos=ask.free_nanos, left_nanos=left)
    if amount:
        # The condition decides, not what was read.
        cursor.execute(
            "UPDATE billing_budget SET leased_nanos = leased_nanos + %s WHERE id = %s AND spent_nanos + leased_nanos + %s <= limit_nanos",
            [amount, budget_id, amount],
        )
        if cursor.rowcount:
            left -= amount
            cursor.execute(
                "INSERT INTO billing_lease (budget_id, process_id, amount_nanos) VALUES (%s, %s, %s) "
                "ON CONFLICT (budget_id, process_id) DO UPDATE SET amount_nanos = billing_lease.amount_nanos + excluded.amount_nanos",
                [budget_id, uuid_value(ask.process_id), amount],
            )
        else:
            amount = 0
    return LeaseGrant(
        process_id=ask.process_id, budget_id=budget_id, granted_nanos=amount, limit_nanos=limit, spent_nanos=spent, left_nanos=left
    )


def lease_size(amounts: Sequence[int], *, free_nanos: int, left_nanos: int) -> int:
    """Return how much to lease: what those need who can be served, in order, or more far from the limit.

    Args:
        amounts: What each waiting call needs.
        free_nanos: What the process has already.
        left_nanos: What the budget has left.
    """
    have, needed = free_nanos + left_nanos, 0
    for amount in amounts:
        if needed + amount <= have:
            needed += amount
    missing = needed - free_nanos
    if missing <= 0:
        return 0
    # Whole calls: of 1.9 calls' money the 0.9 would lie idle here while another process, one call short, refuses.
    call = max(amounts)
    return max(missing, min(_CALLS_PER_LEASE, left_nanos // _LARGEST_SHARE // call) * call)


def _read(cursor: CursorWrapper, budget_id: int) -> tuple[int, int, int]:
    cursor.execute("SELECT limit_nanos, spent_nanos, leased_nanos FROM billing_budget WHERE id = %s", [budget_id])
    limit, spent, leased = cursor.fetchone()
    return limit, spent, max(0, limit - spent - leased)


def _find_or_open(cursor: CursorWrapper, ask: LeaseAsk) -> int | None:
    """Return the id of the asked period's row, made now if the asker brought its limit."""
    where = [uuid_value(ask.account_id), ask.subject, time_value(ask.starts_at)]
    if ask.limit_nanos is not None:
        cursor.execute(
            "INSERT INTO billing_budget (account_id, subject, starts_at, interval, ends_at, limit_nanos, spent_nanos, leased_nanos) "
            "VALUES (%s, %s, %s, %s, %s, %s, 0, 0) ON CONFLICT (account_id, subject, starts_at) DO NOTHING",
            [*where, ask.interval, None if ask.ends_at is None else time_value(ask.ends_at), ask.limit_nanos],
        )
    cursor.execute("SELECT id FROM billing_budget WHERE account_id = %s AND subject = %s AND starts_at = %s", where)
    row = cursor.fetchone()
    return None if row is None else row[0]
