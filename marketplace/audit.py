"""Record who did what, chained by hashes, in the deed's own transaction."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from billing.periods import hour_of
from marketplace.models import ApiKey, AuditCheck, AuditEvent, Organization, User

# PostgreSQL advisory lock that serializes the chain; any constant of ours will do.
_CHAIN_LOCK = 0x0FA2EB0C


def record(
    organization: Organization | None,
    *,
    action: str,
    target: object,
    by: User | ApiKey | str,
    details: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Append one deed to the chain. Call it inside the transaction that does the deed."""
    with transaction.atomic():
        if connection.vendor == "postgresql":  # On SQLite BEGIN IMMEDIATE serializes already.
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_CHAIN_LOCK])
        last = AuditEvent.objects.order_by("-sequence").first()
        event = AuditEvent(
            sequence=last.sequence + 1 if last else 1,
            organization=organization,
            by=_actor(by),
            action=action,
            target=str(target),
            details=dict(details or {}),
            created_at=timezone.now(),
            previous_hash=last.hash if last else "0" * 64,
        )
        event.hash = event_hash(event)
        event.save(force_insert=True)
    return event


def event_hash(event: AuditEvent) -> str:
    """Return the hexadecimal SHA-256 of an event's content and of the hash before it."""
    organization: UUID | None = event.organization_id
    content = [
        event.previous_hash,
        event.sequence,
        organization.hex if organization else None,
        event.by,
        event.action,
        event.target,
        event.details,
        event.created_at.isoformat(),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def find_broken_link() -> AuditEvent | None:
    """Return the first event that was edited, or that follows a deleted one; None if the chain holds."""
    previous, sequence = "0" * 64, 1
    for event in AuditEvent.objects.order_by("sequence").iterator():
        if event.previous_hash != previous or event.sequence != sequence or event.hash != event_hash(event):
            return event
        previous, sequence = event.hash, sequence + 1
    return None


def check_this_hour() -> AuditCheck | None:
    """Check the whole chain and keep the result; None where somebody has claimed this hour.

    A chain alone does not show that its newest events were deleted, or all rewritten from some point on. So
    each check remembers where the chain ended, and the next one looks whether that event is still there.
    """
    now = timezone.now()
    ended = find_last_check()
    check, is_ours = AuditCheck.objects.get_or_create(hour=hour_of(now), defaults={"started_at": now})
    if not is_ours:
        return None
    last = AuditEvent.objects.order_by("-sequence").first()  # Before the walk: more may be written meanwhile.
    broken = find_broken_link()
    if broken is not None:
        check.broken_sequence, check.words = broken.sequence, "it was edited, or the event before it is gone"
    elif ended is not None and not _still_holds(ended):
        check.broken_sequence, check.words = ended.last_sequence, "an event that was there at the last check is gone or rewritten"
    # A broken chain does not move the mark: the next check must find what this one found.
    if check.broken_sequence is None and last is not None:
        check.last_sequence, check.last_hash = last.sequence, last.hash
    elif ended is not None:
        check.last_sequence, check.last_hash = ended.last_sequence, ended.last_hash
    check.finished_at = timezone.now()
    check.save(update_fields=["finished_at", "broken_sequence", "words", "last_sequence", "last_hash"])
    return check


def find_last_check() -> AuditCheck | None:
    """Return the last check that came to its end, or None while none has."""
    return AuditCheck.objects.filter(finished_at__isnull=False).order_by("-hour").first()


def _still_holds(ended: AuditCheck) -> bool:
    """Whether the event at which the chain ended then is there, unchanged."""
    return ended.last_sequence == 0 or AuditEvent.objects.filter(sequence=ended.last_sequence, hash=ended.last_hash).exists()


def _actor(by: User | ApiKey | str) -> str:
    if isinstance(by, User):
        return by.email
    return f"key:{by.pk}" if isinstance(by, ApiKey) else by
