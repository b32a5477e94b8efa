"""Give charges back: the event stays, a refund stands beside it, budgets and sums follow."""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from billing.ids import uuid7
from billing.models import Account, Invoice, UsageEvent, UsageRefund
from billing.payers import parse_payers
from billing.periods import hour_of, month_of
from billing.settling import Settlement
from billing.sql import insert_rows, lock_budgets, time_value, uuid_value

_INSERT_REFUNDS: Final = "INSERT INTO billing_usagerefund (id, event_id, account_id, charge_nanos, reason, by, booked_at, created_at)"
_LESS: Final = (
    "UPDATE billing_usagerollup SET refunded_events = refunded_events + %s, refunded_units = refunded_units + %s, "
    "refunded_nanos = refunded_nanos + %s WHERE account_id = %s AND hour = %s AND sku = %s AND unit = %s AND source = %s "
    "AND livemode = %s AND "
)


@transaction.atomic
def refund_event(event_id: UUID, *, reason: str, by: str) -> UsageRefund:
    """Give one event's charge back in full; return the refund, the first one if there is one already.

    Raises:
        UsageEvent.DoesNotExist: there is no such event.
    """
    event = UsageEvent.objects.get(pk=event_id)
    refund_events([event], reason=reason, by=by)
    return UsageRefund.objects.get(event=event)


def refund_events(events: Sequence[UsageEvent], *, reason: str, by: str) -> int:
    """Refund those of the events that are not refunded yet; return how many were. In a transaction.

    Locks budgets, then accounts, then hours, each in order, as all others do.
    """
    with connection.cursor() as cursor:
        lock_budgets(cursor, sorted({budget_id for event in events for budget_id in paying_budgets(event)}))
    # The account's lock keeps two refunds of one event, and a refund and the close of its
    # period, apart. NO KEY: settling calls refer to the row and need not wait.
    account_ids = sorted({event.account_id for event in events})
    list(Account.objects.select_for_update(no_key=True).filter(pk__in=account_ids).order_by("pk"))
    done = set(UsageRefund.objects.filter(event__in=[event.pk for event in events]).values_list("event_id", flat=True))
    fresh = [event for event in events if event.pk not in done]
    if fresh:
        with connection.cursor() as cursor:
            _give_back(cursor, fresh)
            insert_rows(cursor, _INSERT_REFUNDS, _refund_rows(fresh, reason=reason[:200], by=by))
            _take_off_rollups(cursor, fresh)
    return len(fresh)


class WriteRefunds:
    """Refunds calls whose caller went away while they were being charged; each result is None."""

    order: Final = 40

    def write(self, items: Sequence[Settlement]) -> list[None]:
        """Write inside the committer's transaction."""
        events = list(UsageEvent.objects.filter(pk__in=[item.event_id for item in items]))
        refund_events(events, reason="The caller went away before the reply.", by="system")
        return [None] * len(items)

    def budget_ids(self, items: Iterable[Settlement]) -> set[int]:
        """Return the budgets to lock beforehand."""
        return {budget_id for item in items for budget_id in (*item.budget_ids, *item.quota_ids)}


def paying_budgets(event: UsageEvent) -> list[int]:
    """Return the ids of the budgets that an event was charged to, in money or in units."""
    return [budget_id for budget_id, _ in parse_payers(event.budgets)]


def _give_back(cursor: CursorWrapper, events: Iterable[UsageEvent]) -> None:
    amounts: dict[int, int] = {}
    for event in events:
        for budget_id, in_units in parse_payers(event.budgets):
            amounts[budget_id] = amounts.get(budget_id, 0) + (event.units if in_units else event.charge_nanos)
    for budget_id, amount in sorted(amounts.items()):
        cursor.execute("UPDATE billing_budget SET spent_nanos = spent_nanos - %s WHERE id = %s", [amount, budget_id])


def _refund_rows(events: Iterable[UsageEvent], *, reason: str, by: str) -> list[tuple[Any, ...]]:
    now = timezone.now()
    is_closed: dict[tuple[Any, Any], bool] = {}
    rows = []
    for event in events:
        period = (event.account_id, month_of(event.occurred_at)[0])
        if period not in is_closed:
            is_closed[period] = Invoice.objects.filter(account_id=period[0], starts_at__gte=period[1]).exists()
        booked_at = now if is_closed[period] else event.occurred_at
        row = (uuid_value(uuid7()), uuid_value(event.pk), uuid_value(event.account_id), event.charge_nanos, reason, by)
        rows.append((*row, time_value(booked_at), time_value(now)))
    return rows


def _take_off_rollups(cursor: CursorWrapper, events: Iterable[UsageEvent]) -> None:
    sums: dict[tuple[Any, ...], list[int]] = {}
    for event in events:
        price = None if event.price_id is None else uuid_value(event.price_id)
        where = (uuid_value(event.account_id), time_value(hour_of(event.occurred_at)), event.sku, event.unit, event.source, event.livemode)
        total = sums.setdefault((*where, price), [0, 0, 0])
        total[0] += 1
        total[1] += event.units
        total[2] += event.charge_nanos
    for key, total in sorted(sums.items(), key=lambda pair: (pair[0][:-1], pair[0][-1] or "")):
        if key[-1] is None:
            cursor.execute(f"{_LESS} price_id IS NULL", [*total, *key[:-1]])
        else:
            cursor.execute(f"{_LESS} price_id = %s", [*total, *key])
