"""The rules of asynchronous predictions: accept, claim, keep a result, fail, cancel, forget.

Accepted is a committed row. Who runs it claims it for a while, so that a runner that dies costs
a wait and nothing else; the result and the charge are one commit, whose update finds the row
unended or refuses. So each is charged once, however often it is run.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum
from django.utils import timezone
from kombu.exceptions import OperationalError

from billing.ids import uuid7
from billing.money import parse_amount
from marketplace.errors import AlreadyEnded, StorageQuotaExceeded
from marketplace.models import Batch, Prediction

log = logging.getLogger(__name__)

# What a row takes beside its input and output: an empty one is not free.
ROW_BYTES: Final = 500
# Times a prediction is run that fails for a reason that may pass by itself, such as its deadline.
MAX_ATTEMPTS: Final = 3
# A claim outlives the request that runs the claimed rows (`door.TIMEOUT_S`), so two runners meet only by accident.
CLAIM: Final = timedelta(seconds=60)
RUN_TASK: Final = "marketplace.tasks.run_predictions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A prediction to be kept for later."""

    id: UUID
    organization_id: UUID
    key_id: UUID
    version_id: UUID
    livemode: bool
    body: bytes  # Of a predict call, checked.
    endpoint_id: UUID | None  # The webhook endpoint named in the request.
    created_at: datetime  # When it was admitted: its price is that moment's.


def accept(accepted: Accepted) -> None:
    """Keep a prediction, in the caller's transaction.

    Raises:
        StorageQuotaExceeded: the organization's inputs and outputs would take too much; nothing was kept.
    """
    size = len(accepted.body) + ROW_BYTES
    check_room(accepted.organization_id, size)
    Prediction.objects.create(
        id=accepted.id,
        organization_id=accepted.organization_id,
        key_id=accepted.key_id,
        version_id=accepted.version_id,
        livemode=accepted.livemode,
        input=accepted.body,
        stored_bytes=size,
        endpoint_id=accepted.endpoint_id,
        created_at=accepted.created_at,
    )


def check_room(organization_id: UUID, size_bytes: int) -> None:
    """Refuse what would not fit beside all that is kept for an organization.

    On PostgreSQL, gateways that accept at the same moment may each see the room the other takes;
    then it is overshot by what they accept at once, a megabyte or so.

    Raises:
        StorageQuotaExceeded: it would not.
    """
    limit = settings.STORED_BYTES_PER_ORGANIZATION
    kept = Prediction.objects.filter(organization_id=organization_id).aggregate(sum=Sum("stored_bytes"))["sum"] or 0
    # A file that is being read has not all its rows yet.
    opening = Batch.objects.filter(organization_id=organization_id, status=Batch.Status.CREATING)
    kept += opening.aggregate(sum=Sum("input_bytes"))["sum"] or 0
    if kept + size_bytes > limit:
        raise StorageQuotaExceeded(limit=limit, used=kept)


def nudge() -> None:
    """Have the runner look now rather than at its next sweep. Its failure delays and loses nothing."""
    current_app.send_task(RUN_TASK, expires=60)


def nudge_safely() -> None:
    """Nudge; where the broker cannot be reached, the sweep finds the rows all the same."""
    try:
        nudge()
    except (OSError, OperationalError) as error:
        log.warning("The runner could not be told of new predictions: %s", error)


# ---------------------------------------------------------------- Running


def due(now: datetime) -> QuerySet[Prediction]:
    """Return what may be run now: queued and not waiting, or claimed by somebody who is late."""
    is_free = Q(status=Prediction.Status.QUEUED) | Q(status=Prediction.Status.RUNNING, claimed_until__lt=now)
    return Prediction.objects.filter(is_free, Q(not_before__isnull=True) | Q(not_before__lte=now))


def claim(rows: QuerySet[Prediction], *, most: int, max_bytes: int) -> list[Prediction]:
    """Claim the oldest of some predictions, and return those that nobody else claimed first.

    Args:
        rows: Due ones, in the order in which they are wanted.
        most: How many.
        max_bytes: Of all their inputs; at least one is claimed.
    """
    chosen: list[UUID] = []
    size = 0
    for pk, stored_bytes in rows.values_list("pk", "stored_bytes")[:most]:
        size += stored_bytes
        if chosen and size > max_bytes:
            break
        chosen.append(pk)
    now, mine = timezone.now(), uuid7()
    with transaction.atomic():
        claimed = due(now).filter(pk__in=chosen).update(status=Prediction.Status.RUNNING, claim=mine, claimed_until=now + CLAIM)
        if not claimed:
            return []
        Prediction.objects.filter(claim=mine, started_at__isnull=True).update(started_at=now)
    return list(Prediction.objects.filter(claim=mine).select_related("key", "version__model__owner").order_by("created_at", "line"))


def put_back(rows: Sequence[Prediction], *, delay_s: float = 0.0, has_tried: bool = False) -> None:
    """Queue claimed predictions again, those that have not ended meanwhile."""
    not_before = timezone.now() + timedelta(seconds=delay_s) if delay_s else None
    mine = _claimed(rows)
    mine.update(
        status=Prediction.Status.QUEUED,
        claim=None,
        claimed_until=None,
        not_before=not_before,
        attempts=F("attempts") + (1 if has_tried else 0),
    )


def fail(rows: Sequence[Prediction], error: Mapping[str, Any]) -> int:
    """End claimed predictions without a result or a charge, those that have not ended meanwhile; return how many."""
    return _end_failed(_claimed(rows), error)


def fail_unended(rows: QuerySet[Prediction], error: Mapping[str, Any]) -> int:
    """End all of these that have not ended, whoever runs them; return how many."""
    return _end_failed(rows.filter(status__in=Prediction.UNENDED), error)


def _claimed(rows: Sequence[Prediction]) -> QuerySet[Prediction]:
    """Still ours: a claim that was late may be another runner's by now."""
    claims = {row.claim for row in rows}
    return Prediction.objects.filter(pk__in=[row.pk for row in rows], claim__in=claims, status=Prediction.Status.RUNNING)


def _end_failed(rows: QuerySet[Prediction], error: Mapping[str, Any]) -> int:
    return rows.update(
        status=Prediction.Status.FAILED,
        error=dict(error),
        input=b"",
        stored_bytes=ROW_BYTES,
        claim=None,
        claimed_until=None,
        ended_at=timezone.now(),
    )


def keep_result(prediction_id: UUID, *, body: bytes, usage: Mapping[str, Any]) -> bool:
    """Keep the answer of a prediction; return False if it has ended already: then nothing may be charged.

    Called in the transaction that settles the call. From that update on its result is final: the
    input has done its work and goes.
    """
    kept = Prediction.objects.filter(pk=prediction_id, status__in=Prediction.UNENDED).update(
        status=Prediction.Status.SUCCEEDED,
        output=body,
        input=b"",
        stored_bytes=len(body) + ROW_BYTES,
        unit=usage["unit"],
        units=usage["units"],
        charge_nanos=parse_amount(usage["cost"]),
        claim=None,
        claimed_until=None,
        ended_at=timezone.now(),
    )
    return bool(kept)


@transaction.atomic
def cancel_prediction(prediction: Prediction) -> None:
    """End a prediction that has not ended. What runs now is not kept and not charged. Twice changes nothing.

    Raises:
        AlreadyEnded: it succeeded or failed; it keeps its result.
    """
    cancelled = cancel_all(Prediction.objects.filter(pk=prediction.pk))
    prediction.refresh_from_db()
    if not cancelled and prediction.status != Prediction.Status.CANCELLED:
        raise AlreadyEnded(status=prediction.status)


def cancel_all(rows: QuerySet[Prediction]) -> int:
    """Cancel all of these that have not ended; return how many."""
    return rows.filter(status__in=Prediction.UNENDED).update(
        status=Prediction.Status.CANCELLED,
        input=b"",
        stored_bytes=ROW_BYTES,
        claim=None,
        claimed_until=None,
        announced=True,  # Whoever cancels knows.
        ended_at=timezone.now(),
    )


def forget_old() -> None:
    """Delete predictions and batches that ended so long ago that nobody may ask for them any more.

    Usage events and the request log stay: bills rest on them.
    """
    before = timezone.now() - timedelta(days=settings.PREDICTION_DAYS)
    _delete_in_parts(Prediction.objects.filter(ended_at__lt=before, batch__isnull=True))
    for batch in Batch.objects.filter(ended_at__lt=before):
        _delete_in_parts(batch.predictions.all())
        batch.delete()


def _delete_in_parts(rows: QuerySet[Prediction]) -> None:
    """Delete some at a time: a batch at once would hold SQLite's only writer for seconds."""
    while part := list(rows.values_list("pk", flat=True)[:500]):
        Prediction.objects.filter(pk__in=part).delete()
