"""Idempotency-Key: the same key and body get the same bytes and are charged once.

A claim row is committed before the run and completed in the commit that settles the call, so
after a crash either the reply is there to repeat, or nothing was charged. Source: IETF
draft-ietf-httpapi-idempotency-key-header-06.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from billing.ids import uuid7
from billing.metering import Meter
from billing.models import GatewayProcess
from marketplace.errors import IdempotencyInProgress, IdempotencyKeyReused
from marketplace.gateway.callers import Caller
from marketplace.gateway.options import read_idempotency_key
from marketplace.gateway.replies import Headers, Reply
from marketplace.gateway.request import Request
from marketplace.models import IdempotencyRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A claim to be made: who, where, which key, of which body."""

    id: UUID
    organization_id: UUID
    livemode: bool
    route: str
    key: str
    fingerprint: str
    process: UUID


@dataclass(slots=True)
class Claim:
    """One request's hold on its Idempotency-Key; `stored` is the reply to repeat, if there is one."""

    id: UUID
    stored: Reply | None
    is_completed: bool = False

    def completed(self, finish: Callable[[], Reply]) -> tuple["CompleteClaims", "_Completion"]:
        """Return the write that stores the reply; it goes into the settling commit, which knows what the call costs."""
        return COMPLETE, _Completion(self, finish)


@dataclass(frozen=True, slots=True)
class _Completion:
    claim: Claim
    finish: Callable[[], Reply]


class MakeClaims:
    """Writes claims: each item's result is None where it was made, else the row that was first."""

    def write(self, items: Sequence[_Wanted]) -> list[Any]:
        """Write inside the committer's transaction.

        In one order: on PostgreSQL two processes that claim the same keys wait for each other's rows.
        """
        order = sorted(range(len(items)), key=lambda place: (str(items[place].organization_id), items[place].route, items[place].key))
        made = {place: self._make(items[place]) for place in order}
        return [made[place] for place in range(len(items))]

    def _make(self, wanted: _Wanted) -> IdempotencyRecord | None:
        scope = {
            "organization_id": wanted.organization_id,
            "livemode": wanted.livemode,
            "route": wanted.route,
            "key": wanted.key,
        }
        first = IdempotencyRecord.objects.filter(**scope).first()
        if first and not _is_void(first):
            return first
        if first:
            first.delete()
        made = {"id": wanted.id, "fingerprint": wanted.fingerprint, "process": wanted.process, "created_at": timezone.now()}
        # Another process may have been first since we looked: the unique constraint decides.
        IdempotencyRecord.objects.bulk_create([IdempotencyRecord(**scope, **made)], ignore_conflicts=True)
        row = IdempotencyRecord.objects.filter(**scope).first()
        if row is None:  # That other one was refused in this moment, and dropped its claim.
            return self._make(wanted)
        return None if row.pk == wanted.id else row


def _is_void(record: IdempotencyRecord) -> bool:
    """Whether a record no longer counts: too old, or claimed by a process that died before it settled."""
    if record.created_at < timezone.now() - timedelta(hours=settings.IDEMPOTENCY_HOURS):
        return True
    if record.status is not None:
        return False
    process = GatewayProcess.objects.filter(pk=record.process).first()
    return process is None or process.reclaimed_at is not None or process.closed_at is not None


class CompleteClaims:
    """Stores replies in their claims, after the settlement (30): they say what it came to."""

    order: Final = 50

    def write(self, items: Sequence[_Completion]) -> list[Any]:
        """Write inside the committer's transaction."""
        for item in items:
            reply = item.finish()
            headers = [[name.decode(), value.decode()] for name, value in reply.headers]
            IdempotencyRecord.objects.filter(pk=item.claim.id).update(status=reply.status, headers=headers, body=reply.body)
        return [None] * len(items)


class DropClaims:
    """Deletes claims whose request was refused or failed: it may be tried again."""

    def write(self, items: Sequence[UUID]) -> list[Any]:
        """Write inside the committer's transaction."""
        IdempotencyRecord.objects.filter(pk__in=items, status__isnull=True).delete()
        return [None] * len(items)


MAKE = MakeClaims()
COMPLETE = CompleteClaims()
DROP = DropClaims()


class Claims:
    """Makes and ends the claims of this process."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    async def run_once(self, caller: Caller, request: Request, body: bytes, run: Callable[[Claim | None], Awaitable[Reply]]) -> Reply:
        """Return the reply of `run`, or the one that the same Idempotency-Key and body got before.

        Args:
            caller: Whose key it is; organizations do not share keys.
            request: Without the header, `run` simply runs.
            body: The raw body, whose SHA-256 is the fingerprint.
            run: Gets the claim that it must complete in the commit that settles it.

        Raises:
            HeaderInvalid: the key cannot be used.
            IdempotencyKeyReused: it belongs to another body; nothing was run.
            IdempotencyInProgress: the first request still runs; nothing was run.
            Exception: what `run` raised; then the key may be used again.
        """
        if not request.has_header(b"idempotency-key"):
            return await run(None)
        claim = await self._make(caller, request, read_idempotency_key(request), fingerprint=hashlib.sha256(body).hexdigest())
        if claim.stored:
            return claim.stored
        try:
            return await run(claim)
        except BaseException:
            await self._drop(claim)
            raise

    async def _make(self, caller: Caller, request: Request, key: str, *, fingerprint: str) -> Claim:
        wanted = _Wanted(
            id=uuid7(),
            organization_id=caller.organization_id,
            livemode=caller.livemode,
            route=request.path[:200],
            key=key,
            fingerprint=fingerprint,
            process=self._meter.process_id,
        )
        first: IdempotencyRecord | None = await self._meter.submit(MAKE, wanted)
        if first is None:
            return Claim(id=wanted.id, stored=None)
        if first.fingerprint != fingerprint:
            raise IdempotencyKeyReused
        if first.status is None:
            raise IdempotencyInProgress
        headers: Headers = [(name.encode(), value.encode()) for name, value in first.headers]
        headers.append((b"idempotent-replayed", b"true"))
        return Claim(id=first.pk, stored=Reply(status=first.status, headers=headers, body=bytes(first.body)))

    async def _drop(self, claim: Claim) -> None:
        try:
            await self._meter.submit(DROP, claim.id)
        except Exception as error:  # noqa: BLE001 (the refusal itself must still reach the caller)
            # The claim stays "in progress" until this process ends; a repeat gets 409, never a charge.
            log.warning("An idempotency claim could not be dropped: %s", error)
