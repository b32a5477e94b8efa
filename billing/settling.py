"""Write settled calls: usage events, hourly sums and budgets, many calls with few statements."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from billing.errors import ProcessFenced
from billing.money import CURRENCY
from billing.payers import render_payers
from billing.periods import hour_of
from billing.pricing import Terms
from billing.rating import CounterKey, month_key, rate_calls
from billing.receipting import Issued, issue_receipts
from billing.receipts import Signer
from billing.sql import execute, insert_rows, open_cursor, time_value, uuid_value, uuid_values

_INSERT_EVENTS: Final = (
    "INSERT INTO billing_usageevent (id, account_id, price_id, sku, unit, units, charge_nanos, livemode, source, "
    "budgets, process_id, seq, replayable, occurred_at, cached)"
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


class Bill:
    """What a call came to, for writes that go with it: filled in by the settling transaction before they are written."""

    __slots__ = ("charge_nanos", "issued")

    def __init__(self) -> None:
        self.charge_nanos = 0
        self.issued: Issued | None = None

    def receipt(self) -> str:
        """Return the call's receipt in one line; empty where this process signs none."""
        return self.issued.token() if self.issued else ""


@dataclass(slots=True, kw_only=True)  # Not frozen: that costs 2 us a call.
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
    is_cached: bool = False
    # Where the price has tiers: the charge is computed in the transaction, and lies within what is held.
    terms: Terms | None = None
    held_nanos: int = 0
    bill: Bill | None = None
    currency: str = CURRENCY
    input_hash: bytes = b""
    model_digest: str = ""
    call: str = ""  # The event's public id.
    quota_ids: Sequence[int] = ()  # Budgets that pay in units: a plan's hard quota.


class Settled(NamedTuple):
    """What became of a call."""

    charge_nanos: int
    month: CounterKey | None = None  # Where its price has tiers: the counter,
    month_units: int = 0  # and what that stands at after the group.


class WriteSettlements:
    """Writes settlements; each result is a Settled. Charges by tiers are computed here, and set on the item."""

    order: Final = 30

    def __init__(self, writing_as: Callable[[], UUID], *, signer: Signer | None = None) -> None:
        """`writing_as` returns the id that the process has on the commit thread; without a signer there are no receipts."""
        self._writing_as = writing_as
        self._signer = signer

    def write(self, items: Sequence[Settlement]) -> list[Settled | ProcessFenced]:
        """Write inside the committer's transaction.

        Raises:
            ValueError: a charge is above its hold, which its price's highest charge rules out.
        """
        me = self._writing_as()
        # Money held under an earlier identity was given back when that was reclaimed.
        lost = {item.seq for item in items if item.process_id != me and (item.budget_ids or item.quota_ids)}
        written = [item for item in items if item.seq not in lost] if lost else items
        months: dict[CounterKey, int] = {}
        if written:
            cursor = open_cursor()
            months = _rate(cursor, written)
            rows = _event_rows(written, process=uuid_value(me))
            _pay(cursor, me, written)
            insert_rows(cursor, _INSERT_EVENTS, rows)
            if self._signer is not None:
                _give_receipts(cursor, written, self._signer)
            _add_to_rollups(cursor, rows)
        return [ProcessFenced("The call's money was given back.") if item.seq in lost else _settled(item, months) for item in items]

    def budget_ids(self, items: Iterable[Settlement]) -> set[int]:
        """Return the budgets to lock beforehand."""
        return {budget_id for item in items for budget_id in (*item.budget_ids, *item.quota_ids)}


def _rate(cursor: CursorWrapper, items: Sequence[Settlement]) -> dict[CounterKey, int]:
    """Charge the items whose price has tiers; return where their months stand now."""
    months = rate_calls(cursor, items)
    for item in items if months else ():
        if item.terms is not None and item.charge_nanos > item.held_nanos:
            message = f"The charge of {item.charge_nanos} nanos is above the {item.held_nanos} held."
            raise ValueError(message)
    return months


def _give_receipts(cursor: CursorWrapper, items: Sequence[Settlement], signer: Signer) -> None:
    """Issue the items' receipts, and put each where its caller finds it."""
    for item, issued in zip(items, issue_receipts(cursor, items, signer), strict=True):
        if item.bill is not None:
            item.bill.issued = issued


def _settled(item: Settlement, months: Mapping[CounterKey, int]) -> Settled:
    if item.bill is not None:
        item.bill.charge_nanos = item.charge_nanos
    if item.terms is None:
        return Settled(item.charge_nanos)
    key = month_key(item.account_id, item.terms, item.occurred_at)
    return Settled(item.charge_nanos, key, months.get(key, 0))


def _pay(cursor: CursorWrapper, process_id: UUID, items: Sequence[Settlement]) -> None:
    """Move each budget's charges from leased to spent: one UPDATE a budget, however many calls."""
    charges: dict[int, int] = {}
    for item in items:
        for budget_id in item.budget_ids:
            charges[budget_id] = charges.get(budget_id, 0) + item.charge_nanos
        for budget_id in item.quota_ids:
            charges[budget_id] = charges.get(budget_id, 0) + item.units
    if not charges:
        return
    process = uuid_value(process_id)
    for budget_id in sorted(charges):
        amount = charges[budget_id]
        execute(
            cursor,
            "UPDATE billing_budget SET spent_nanos = spent_nanos + %s, leased_nanos = leased_nanos - %s WHERE id = %s",
            [amount, amount, budget_id],
        )
        # Its CHECK stops a lease from going below zero: no call pays with money of others.
        paid = execute(
            cursor,
            "UPDATE billing_lease SET amount_nanos = amount_nanos - %s WHERE budget_id = %s AND process_id = %s",
            [amount, budget_id, process],
        )
        if paid != 1:
            message = f"There is no lease on budget {budget_id} to settle from."
            raise ProcessFenced(message)


def _event_rows(items: Sequence[Settlement], *, process: str) -> list[tuple[Any, ...]]:
    """Return the events' rows, in the order of `_INSERT_EVENTS`."""
    accounts, prices = uuid_values(item.account_id for item in items), uuid_values(item.price_id for item in items)
    return [
        (
            item.event_id.hex,
            account,
            price,
            item.sku,
            item.unit,
            item.units,
            item.charge_nanos,
            item.livemode,
            item.source,
            ",".join(map(str, item.budget_ids)) if not item.quota_ids else render_payers(item.budget_ids, item.quota_ids),
            process,
            item.seq,
            item.replayable,
            time_value(item.occurred_at),
            item.is_cached,
        )
        for item, account, price in zip(items, accounts, prices, strict=True)
    ]


def _add_to_rollups(cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add events to their hours: one row per account, hour, SKU, source and price among them."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for _, account, price, sku, unit, units, charge, livemode, source, _, _, _, _, occurred_at, _ in rows:
        # Of SQLite's text "2026-11-22 19:34:15.123456" the hour is the beginning.
        hour = occurred_at[:13] if isinstance(occurred_at, str) else hour_of(occurred_at)
        key = (account, hour, sku, unit, source, livemode, price)
        total = sums.get(key)
        if total is None:
            sums[key] = [1, units, charge]
        else:
            total[0] += 1
            total[1] += units
            total[2] += charge
    priced: list[tuple[Any, ...]] = []
    free: list[tuple[Any, ...]] = []
    for (account, hour, *rest), total in sums.items():
        row = (account, f"{hour}:00:00" if isinstance(hour, str) else hour, *rest, *total, 0, 0, 0)
        (free if rest[-1] is None else priced).append(row)
    # Sorted: two processes that add to the same hours in different orders would deadlock.
    insert_rows(cursor, _INSERT_ROLLUPS, sorted(priced), tail=_ADD_PRICED)
    insert_rows(cursor, _INSERT_ROLLUPS, sorted(free), tail=_ADD_FREE)
