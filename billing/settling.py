"""Write settled calls: usage events, hourly sums and budgets, many calls with few statements."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.backends.utils import CursorWrapper

from billing.errors import ProcessFenced
from billing.periods import hour_of
from billing.sql import insert_rows, time_value, uuid_value

_INSERT_EVENTS: Final = (
    "INSERT INTO billing_usageevent (id, account_id, price_id, sku, unit, units, charge_nanos, livemode, source, "
    "budgets, process_id, seq, replayable, occurred_at)"
)
_INSERT_ROLLUPS: Final = (
    "INSERT INTO billing_usagerollup (account_id, hour, sku, unit, source, livemode, price_id, "
    "events, units, charge_nanos, refunded_events, refunded_units, refunded_nanos)"
)
_ADD: Final = (
    "DO UPDATE SET events = billing_usagerollup.events + excluded.events, units = billing_usagerollup.units + excluded.units, "
    "charge_nanos = billing_usagerollup.charge_nanos + excluded.charge_nanos"
)
_ADD_PRICED: Final = f"ON CONFLICT (account_id, hour, sku, unit, source, livemode, price_id) WHERE price_id IS NOT NULL {_ADD}"
_ADD_FREE: Final = f"ON CONFLICT (account_id, hour, sku, unit, source, livemode) WHERE price_id IS NULL {_ADD}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """One call to be written: its usage, what it costs, and the budgets that pay."""

    process_id: UUID
    seq: int
    event_id: UUID
    account_id: UUID
    price_id: UUID | None
    sku: str
    unit: str
    units: int
    charge_nanos: int
    livemode: bool
    source: str
    occurred_at: datetime
    replayable: bool
    budget_ids: Sequence[int]


class WriteSettlements:
    """Writes settlements; each result is None."""

    order: Final = 30

    def __init__(self, writing_as: Callable[[], UUID]) -> None:
        """`writing_as` returns the id that the process has on the commit thread."""
        self._writing_as = writing_as

    def write(self, items: Sequence[Settlement]) -> list[ProcessFenced | None]:
        """Write inside the committer's transaction."""
        me = self._writing_as()
        # Money held under an earlier identity was given back when that was reclaimed.
        lost = {item.seq for item in items if item.process_id != me and item.budget_ids}
        written = [item for item in items if item.seq not in lost] if lost else items
        if written:
            with connection.cursor() as cursor:
                _pay(cursor, me, written)
                insert_rows(cursor, _INSERT_EVENTS, [_event_row(item, uuid_value(me)) for item in written])
                _add_to_rollups(cursor, written)
        return [ProcessFenced("The call's money was given back.") if item.seq in lost else None for item in items]

    def budget_ids(self, items: Iterable[Settlement]) -> set[int]:
        """Return the budgets to lock beforehand."""
        return {budget_id for item in items for budget_id in item.budget_ids}


def _pay(cursor: CursorWrapper, process_id: UUID, items: Sequence[Settlement]) -> None:
    """Move each budget's charges from leased to spent: one UPDATE a budget, however many calls."""
    charges: dict[int, int] = {}
    for item in items:
        for budget_id in item.budget_ids:
            charges[budget_id] = charges.get(budget_id, 0) + item.charge_nanos
    if not charges:
        return
    process = uuid_value(process_id)
    for budget_id in sorted(charges):
        amount = charges[budget_id]
        cursor.execute(
            "UPDATE billing_budget SET spent_nanos = spent_nanos + %s, leased_nanos = leased_nanos - %s WHERE id = %s",
            [amount, amount, budget_id],
        )
        # Its CHECK stops a lease from going below zero: no call pays with money of others.
        cursor.execute(
            "UPDATE billing_lease SET amount_nanos = amount_nanos - %s WHERE budget_id = %s AND process_id = %s",
            [amount, budget_id, process],
        )
        if cursor.rowcount != 1:
            message = f"There is no lease on budget {budget_id} to settle from."
            raise ProcessFenced(message)


def _event_row(item: Settlement, process: str) -> tuple[Any, ...]:
    return (
        uuid_value(item.event_id),
        uuid_value(item.account_id),
        None if item.price_id is None else uuid_value(item.price_id),
        item.sku,
        item.unit,
        item.units,
        item.charge_nanos,
        item.livemode,
        item.source,
        ",".join(map(str, item.budget_ids)),
        process,
        item.seq,
        item.replayable,
        time_value(item.occurred_at),
    )


def _add_to_rollups(cursor: CursorWrapper, items: Sequence[Settlement]) -> None:
    """Add the group to its hours: one row per account, hour, SKU, source and price in it."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for item in items:
        key = (item.account_id, hour_of(item.occurred_at), item.sku, item.unit, item.source, item.livemode, item.price_id)
        total = sums.get(key)
        if total is None:
            sums[key] = [1, item.units, item.charge_nanos]
        else:
            total[0] += 1
            total[1] += item.units
            total[2] += item.charge_nanos
    priced: list[tuple[Any, ...]] = []
    free: list[tuple[Any, ...]] = []
    for key, (events, units, charge) in sums.items():
        account_id, hour, sku, unit, source, livemode, price_id = key
        price = None if price_id is None else uuid_value(price_id)
        row = (uuid_value(account_id), time_value(hour), sku, unit, source, livemode, price, events, units, charge, 0, 0, 0)
        (free if price is None else priced).append(row)
    # Sorted: two processes that add to the same hours in different orders would deadlock.
    insert_rows(cursor, _INSERT_ROLLUPS, sorted(priced), tail=_ADD_PRICED)
    insert_rows(cursor, _INSERT_ROLLUPS, sorted(free), tail=_ADD_FREE)
