"""Record who did what, chained by hashes, in the deed's own transaction."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from marketplace.models import ApiKey, AuditEvent, Organization, User

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


def _actor(by: User | ApiKey | str) -> str:
    if isinstance(by, User):
        return by.email
    return f"key:{by.pk}" if isinstance(by, ApiKey) else by
