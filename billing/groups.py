"""A group of writes: units from many calls, sorted by kind, written in one transaction."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from django.db.backends.utils import CursorWrapper

from billing.sql import is_sqlite, lock_budgets


class WriteKind(Protocol):
    """One kind of row that calls need written, in the transaction that settles them.

    A kind may also have `order` (kinds write in ascending order; those without come last, by
    class name; the order must be the same in every process, or two would wait for each other),
    and `budget_ids(items)`: the budgets it will change, which are then locked beforehand.
    """

    def write(self, items: Sequence[Any]) -> Sequence[Any]:
        """Write the items on this thread's Django connection, inside an open transaction.

        Returns:
            A result per item. An exception as a result says: nothing was written for this item,
            and its caller gets the exception.

        Raises:
            Exception: the group is rolled back and its items are tried one by one.
        """
        ...


Write: TypeAlias = tuple[WriteKind, Any]
Outcome: TypeAlias = list[Any] | Exception


class Unit:
    """Writes that happen together or not at all, and who waits for them."""

    __slots__ = ("future", "orphaned", "writes")

    def __init__(self, writes: Sequence[Write], future: "asyncio.Future[list[Any]]", orphaned: Callable[[Outcome], None] | None) -> None:
        self.writes = writes
        self.future = future
        self.orphaned = orphaned


class UnitFailed(Exception):
    """One write of a unit with several was refused, so the transaction must be rolled back."""

    def __init__(self, unit: Unit, error: Exception) -> None:
        self.unit, self.error = unit, error


_Batch: TypeAlias = tuple[WriteKind, list[Any], list[tuple[Unit, int]]]


def write_units(cursor: CursorWrapper, units: Iterable[Unit]) -> dict[Unit, Outcome]:
    """Write all units inside the open transaction; return each one's outcome.

    Raises:
        UnitFailed: the transaction must be rolled back; without that unit it may succeed.
        Exception: what a kind raised; the transaction must be rolled back.
    """
    outcomes: dict[Unit, Outcome] = {}
    batches = _by_kind(units)
    if not is_sqlite():
        _lock_budgets_of(batches, cursor)
    for kind, items, places in batches:
        _collect(outcomes, kind.write(items), places)
    return outcomes


def _by_kind(units: Iterable[Unit]) -> list[_Batch]:
    """Sort the writes of all units by kind, keeping where each belongs."""
    batches: dict[WriteKind, _Batch] = {}
    for unit in units:
        for place, (kind, item) in enumerate(unit.writes):
            batch = batches.get(kind)
            if batch is None:
                batch = batches[kind] = (kind, [], [])
            batch[1].append(item)
            batch[2].append((unit, place))
    if len(batches) == 1:
        return list(batches.values())
    return sorted(batches.values(), key=lambda batch: (getattr(batch[0], "order", 1000), type(batch[0]).__name__))


def _lock_budgets_of(batches: list[_Batch], cursor: CursorWrapper) -> None:
    """Lock every budget that the kinds will change, all in one order."""
    budget_ids: set[int] = set()
    for kind, items, _ in batches:
        if find_ids := getattr(kind, "budget_ids", None):
            budget_ids.update(find_ids(items))
    lock_budgets(cursor, sorted(budget_ids))


def _collect(results: dict[Unit, Outcome], written: Sequence[Any], places: list[tuple[Unit, int]]) -> None:
    """Put each result where its caller looks for it."""
    for (unit, place), result in zip(places, written, strict=True):
        if isinstance(result, Exception):
            if len(unit.writes) > 1:  # Its companions were or will be written: only a rollback helps.
                raise UnitFailed(unit, result)
            results[unit] = result
        else:
            mine = results.get(unit)
            if mine is None:
                mine = results[unit] = [None] * len(unit.writes)
            mine[place] = result  # type: ignore[index]  # An exception has no companions.


def wake_callers(outcomes: dict[Unit, Outcome]) -> None:
    """Wake the callers of a group."""
    for unit, outcome in outcomes.items():
        if unit.future.done():  # The caller was cancelled.
            if unit.orphaned is not None:
                unit.orphaned(outcome)
        elif isinstance(outcome, Exception):
            unit.future.set_exception(outcome)
        else:
            unit.future.set_result(outcome)


def pass_on(whole: "asyncio.Future[list[Any]]", future: "asyncio.Future[Any]") -> None:
    """Give a lone write's result to who waits for it."""
    error = whole.exception()
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(whole.result()[0])
