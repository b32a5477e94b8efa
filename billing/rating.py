"""Exact charges of prices by tiers, computed inside the transaction that settles the calls.

Each month's units are counted in one row per account and meter. Adding to it locks it until the
commit, so two processes that settle for one account come one after the other, and each call is
charged at its own place in the month: no unit is charged twice at the cheap end, none left out.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from django.db import connection
from django.db.backends.utils import CursorWrapper

from billing.periods import EPOCH, month_of
from billing.pricing import Shape, Terms, charge, shape_of, trial_part
from billing.sql import fetch, time_value, uuid_value

_COUNT: Final = (
    "INSERT INTO billing_usagecounter (account_id, meter, unit, starts_at, units) VALUES (%s, %s, %s, %s, %s) "
    "ON CONFLICT (account_id, meter, unit, starts_at) DO UPDATE SET units = billing_usagecounter.units + excluded.units RETURNING units"
)
_READ: Final = "SELECT units FROM billing_usagecounter WHERE account_id = %s AND meter = %s AND unit = %s AND starts_at = %s"


class CounterKey(NamedTuple):
    """What is counted together: an account's units on a meter, in one month or (EPOCH) ever."""

    account_id: UUID
    meter: str
    unit: str
    starts_at: datetime


class Rated(Protocol):
    """A call to be charged."""

    account_id: UUID
    terms: Terms | None
    units: int
    is_cached: bool
    occurred_at: datetime
    charge_nanos: int


def month_key(account_id: UUID, terms: Terms, moment: datetime) -> CounterKey:
    """Return the counter of the month that a call belongs to."""
    return CounterKey(account_id, terms.counted_as, terms.unit, month_of(moment)[0])


def rate_calls(cursor: CursorWrapper, items: Sequence[Rated]) -> dict[CounterKey, int]:
    """Charge the calls whose price looks back, in their order; return what each month's counter stands at now.

    In the settling transaction: what is counted here is rolled back with it.
    """
    shaped = [item for item in items if item.terms is not None and not item.terms.is_plain]
    if not shaped:
        return {}
    return _walk(shaped, lambda key, units: _add(cursor, key, units))


def rate_history(items: Sequence[Rated], counters: dict[CounterKey, int]) -> None:
    """Charge calls of the past again, in their order, without a database.

    Args:
        items: Calls; their `charge_nanos` is set.
        counters: What each counter stood at before the first, 0 where it is absent; left at what follows the last.
    """

    def add(key: CounterKey, units: int) -> int:
        counters[key] = counters.get(key, 0) + units
        return counters[key]

    for item in items:
        if item.terms is not None and item.terms.is_plain:
            item.charge_nanos = charge(item.terms, item.units, is_cached=item.is_cached)
        elif item.terms is not None:
            _walk([item], add)


def _walk(items: Sequence[Rated], add: Callable[[CounterKey, int], int]) -> dict[CounterKey, int]:
    """Count all units of each key at once, then hand each call its place in that range."""
    counted = {id(item): 0 if _has_own_price(item) else item.units for item in items}
    for item, place in _places([item for item in items if _shape(item).trial_units], counted, add, starts_at=EPOCH):
        counted[id(item)] -= trial_part(_shape(item), counted[id(item)], ever_used=place)
    ends: dict[CounterKey, int] = {}
    for item, place in _places(items, counted, add, starts_at=None, ends=ends):
        assert item.terms is not None
        if _has_own_price(item):
            item.charge_nanos = charge(item.terms, item.units, is_cached=True)
        else:
            item.charge_nanos = charge(item.terms, counted[id(item)], already_used=place)
    return ends


def _places(
    items: Sequence[Rated],
    counted: dict[int, int],
    add: Callable[[CounterKey, int], int],
    *,
    starts_at: datetime | None,
    ends: dict[CounterKey, int] | None = None,
) -> list[tuple[Rated, int]]:
    """Add the items' units to their counters; return each item with what its counter stood at before it."""
    sums: dict[CounterKey, int] = {}
    offsets = []
    for item in items:
        assert item.terms is not None
        key = month_key(item.account_id, item.terms, item.occurred_at)
        if starts_at is not None:
            key = key._replace(starts_at=starts_at)
        offsets.append((item, key, sums.get(key, 0)))
        sums[key] = sums.get(key, 0) + counted[id(item)]
    # In one order: two processes that count the same meters the other way round would deadlock.
    after = {key: add(key, sums[key]) for key in sorted(sums)}
    if ends is not None:
        ends.update(after)
    return [(item, after[key] - sums[key] + offset) for item, key, offset in offsets]


def _shape(item: Rated) -> Shape:
    assert item.terms is not None
    return shape_of(item.terms)


def _has_own_price(item: Rated) -> bool:
    return item.is_cached and _shape(item).cached_unit_nanos is not None


def _add(cursor: CursorWrapper, key: CounterKey, units: int) -> int:
    values = [uuid_value(key.account_id), key.meter, key.unit, time_value(key.starts_at), units]
    return int(fetch(cursor, _COUNT, values)[0][0])


class ReadCounters:
    """Reads counters on the commit thread; each result is the units that the month had at that moment."""

    def write(self, items: Sequence[CounterKey]) -> list[int]:
        """Read inside the committer's transaction; writes nothing."""
        with connection.cursor() as cursor:
            return [self._read(cursor, key) for key in items]

    @staticmethod
    def _read(cursor: CursorWrapper, key: CounterKey) -> int:
        rows = fetch(cursor, _READ, [uuid_value(key.account_id), key.meter, key.unit, time_value(key.starts_at)])
        return int(rows[0][0]) if rows else 0
