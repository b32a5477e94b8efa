"""The outbox: what the provider is to be asked, committed with the change that wants it.

The row is the truth; a task only delivers it sooner than the sweep would. Its idempotency key is
stored before the first call, so that a call made twice has one effect. Which request a kind
stands for, and what its answer changes, says `sending.py`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import F
from django.utils import timezone

from billing.models import Account, OutboxRow

# While one process sends a row no other does. Longer than the longest call: three tries of 10 s and their pauses.
CLAIM: Final = timedelta(seconds=60)
# After this long the provider may have forgotten the key (Stripe keeps it for 24 h): see first whether it happened.
KEY_LIVES: Final = timedelta(hours=20)
# Seconds until the next attempt after the first, second, ... without an answer. Then every hour, for ever.
_WAITS_S: Final = (5, 10, 30, 60, 300, 900, 3600)


def enqueue(account: Account, *, kind: str, subject: object, parameters: Mapping[str, Any]) -> OutboxRow:
    """Have the provider asked for something, once. Call it inside the transaction that wants it."""
    row, _ = OutboxRow.objects.get_or_create(
        kind=kind, subject=str(subject), defaults={"account": account, "parameters": dict(parameters), "due_at": timezone.now()}
    )
    return row


def due_rows(*, now: datetime, limit: int, only: Sequence[str] = (), but: Sequence[str] = ()) -> list[UUID]:
    """Return the rows to send now, the longest due first: only those of some kinds, or all but those."""
    rows = OutboxRow.objects.filter(state=OutboxRow.State.WAITING, due_at__lte=now).exclude(kind__in=but).order_by("due_at", "pk")
    rows = rows.filter(kind__in=only) if only else rows
    return list(rows.values_list("pk", flat=True)[:limit])


def claim(row_id: UUID, *, now: datetime) -> OutboxRow | None:
    """Take a due row for this process; None where another has it, or it is done."""
    due = OutboxRow.objects.filter(pk=row_id, state=OutboxRow.State.WAITING, due_at__lte=now)
    if not due.update(due_at=now + CLAIM, attempts=F("attempts") + 1):
        return None
    return OutboxRow.objects.select_related("account").get(pk=row_id)


def renew_key(row: OutboxRow) -> None:
    """Give a row a fresh idempotency key: it was looked up, and had not happened."""
    row.generation, row.needs_lookup, row.first_sent_at = row.generation + 1, False, None
    row.save(update_fields=["generation", "needs_lookup", "first_sent_at"])


def note_sending(row: OutboxRow, *, now: datetime) -> None:
    """Record, before it happens, that a row is sent under its present key."""
    if row.first_sent_at is None:
        row.first_sent_at = now
        row.save(update_fields=["first_sent_at"])


def postpone(row: OutboxRow, *, now: datetime, why: str, needs_lookup: bool) -> None:
    """Have a row that got no answer tried again later, after a look where that is needed."""
    wait = _WAITS_S[min(row.attempts, len(_WAITS_S)) - 1]
    row.due_at, row.last_error, row.needs_lookup = now + timedelta(seconds=wait), why[:300], row.needs_lookup or needs_lookup
    row.save(update_fields=["due_at", "last_error", "needs_lookup"])


def finish(row: OutboxRow, state: OutboxRow.State, *, why: str = "") -> bool:
    """Mark a row as answered, in the transaction that does what the answer says; False if it was already."""
    waiting = OutboxRow.objects.filter(pk=row.pk, state=OutboxRow.State.WAITING)
    return bool(waiting.update(state=state, finished_at=timezone.now(), last_error=why[:300]))


def reopen(*, kind: str, subject: object) -> bool:
    """Have a refused row asked again under a fresh key, since what it was refused for has changed; False where none was."""
    refused = OutboxRow.objects.filter(kind=kind, subject=str(subject), state=OutboxRow.State.REFUSED)
    fresh = {"generation": F("generation") + 1, "needs_lookup": False, "first_sent_at": None, "attempts": 0}
    return bool(refused.update(state=OutboxRow.State.WAITING, finished_at=None, due_at=timezone.now(), **fresh))


def is_key_old(row: OutboxRow, *, now: datetime) -> bool:
    """Whether the provider may have forgotten the key that a row was sent under."""
    return row.first_sent_at is not None and now - row.first_sent_at > KEY_LIVES
