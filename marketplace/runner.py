"""Run what was accepted for later: claim some rows, send them to the gateway, see to what came of each.

The driver of predictions and batches, called by a Celery task. It may run twice, beside itself, or
die at any point: a claim ends by itself, and a row's result and charge are one commit in the gateway.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from threading import Lock
from typing import Any, Final

import orjson
from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from billing.ids import public_id
from marketplace import batches
from marketplace.errors import PredictionExpired
from marketplace.inner_door import GatewayUnavailable, Outcome, run_rows
from marketplace.models import Batch, Prediction, WebhookEndpoint
from marketplace.predictions import MAX_ATTEMPTS, claim, due, fail, fail_unended, put_back
from marketplace.webhooks import emit

log = logging.getLogger(__name__)

# Rows of one request to the gateway, and bytes of their inputs.
_SLICE_ROWS: Final = 64
_SLICE_BYTES: Final = 4 * 1024 * 1024
# One run goes on for so long; then a fresh one is due, so that a stop need not wait.
_RUN_S: Final = 30.0
# Refusals that pass by themselves, however often: the site is busy, restarting or without its database.
_PASSING: Final = frozenset(
    {"queue_full", "engine_stopping", "storage_unavailable", "control_data_stale", "too_many_at_once", "account_under_review"}
)
# Those that may pass, and are tried three times.
_DOUBTFUL: Final = frozenset({"deadline_exceeded", "worker_lost", "model_load_failed", "internal_error", "price_missing"})
# Those that wait for a budget or a quota.
_SHORT: Final = ("budget_exceeded", "quota_exceeded")
# Those that all rows of a batch have in common.
_COMMON: Final = frozenset({"key_unknown", "key_revoked", "key_expired", "organization_suspended", "scope_missing", "model_not_found"})
_ONCE: Final = Lock()


def run_due() -> int:
    """Run what is due until nothing is, or half a minute is over; return how many rows were sent.

    One run at a time in a process: more would only fill the gateway's queue for live calls.
    """
    if not _ONCE.acquire(blocking=False):
        return 0
    try:
        return _run_until(time.monotonic() + _RUN_S)
    finally:
        _ONCE.release()


def _run_until(deadline: float) -> int:
    sent = 0
    _expire()
    while time.monotonic() < deadline:
        rows = _claim_alone() or _claim_of_batches()
        if not rows:
            break
        try:
            outcomes = run_rows(rows)
        except GatewayUnavailable as error:
            log.warning("Predictions wait for the gateway: %s", error)
            put_back(rows, delay_s=1.0)
            break
        sent += len(rows)
        _see_to(rows, outcomes)
        _announce_ended()
        if all(outcome.kind == "waiting" for outcome in outcomes):
            break  # Live calls fill the site: later.
    _announce_ended()
    for batch in batches.open_batches():
        batches.complete_if_done(batch)
    return sent


def _claim_alone() -> list[Prediction]:
    """Claim predictions that are no batch's: as many of each organization."""
    rows = due(timezone.now()).filter(batch__isnull=True)
    organizations = rows.order_by().values_list("organization_id").annotate(n=Count("pk"))[:_SLICE_ROWS]
    if not organizations:
        return []
    share = max(1, _SLICE_ROWS // len(organizations))
    claimed: list[Prediction] = []
    for organization_id, _ in organizations:
        of_one = rows.filter(organization_id=organization_id).order_by("created_at")
        claimed += claim(of_one, most=share, max_bytes=_SLICE_BYTES // len(organizations))
    return claimed


def _claim_of_batches() -> list[Prediction]:
    """Claim rows of the open batches: as many of each, and one alone of a batch that is paused."""
    now = timezone.now()
    ready = [batch for batch in batches.open_batches()[:_SLICE_ROWS] if batch.not_before is None or batch.not_before <= now]
    ready = [batch for batch in ready if due(now).filter(batch=batch).exists()]
    claimed: list[Prediction] = []
    for batch in ready:
        most = 1 if batch.status == Batch.Status.PAUSED else max(1, _SLICE_ROWS // len(ready))
        claimed += claim(due(now).filter(batch=batch).order_by("line"), most=most, max_bytes=_SLICE_BYTES // len(ready))
    return claimed


def _see_to(rows: Sequence[Prediction], outcomes: Sequence[Outcome]) -> None:
    """Put back, fail or leave each row, and move its batch on."""
    of_batches: dict[Any, list[tuple[Prediction, Outcome]]] = defaultdict(list)
    waiting: list[Prediction] = []
    for row, outcome in zip(rows, outcomes, strict=True):
        if outcome.kind == "waiting":
            waiting.append(row)
        elif outcome.kind == "refused":
            _see_to_refused(row, outcome)
        if row.batch_id:
            of_batches[row.batch_id].append((row, outcome))
    put_back(waiting)
    for batch in Batch.objects.filter(pk__in=of_batches).select_related("version__model__owner"):
        _see_to_batch(batch, [outcome for _, outcome in of_batches[batch.pk]])


def _see_to_refused(row: Prediction, outcome: Outcome) -> None:
    assert outcome.error is not None
    if outcome.code in _PASSING:
        put_back([row], delay_s=1.0)
    elif outcome.code in _DOUBTFUL and row.attempts + 1 < MAX_ATTEMPTS:
        put_back([row], delay_s=5.0 * 2**row.attempts, has_tried=True)
    elif outcome.code in _SHORT and row.batch_id:
        put_back([row])  # The batch waits for money, or for the next month of its plan.
    else:
        fail([row], outcome.error)


def _see_to_batch(batch: Batch, outcomes: Sequence[Outcome]) -> None:
    codes = {outcome.code: outcome for outcome in outcomes if outcome.code}
    common = next((codes[code] for code in codes if code in _COMMON), None)
    if common is not None and common.error is not None:
        batches.fail_rest(batch, error=common.error)
    elif short := next((code for code in _SHORT if code in codes), None):
        batches.pause(batch, reason=short)
    elif any(outcome.kind == "ended" for outcome in outcomes):
        batches.note_started(batch)
    batches.complete_if_done(batch)


def _expire() -> None:
    """Give up what has waited for as long as it may."""
    before = timezone.now() - timedelta(hours=settings.PREDICTION_HOURS)
    expired = PredictionExpired()
    error = {"code": expired.code, "status": 504, "detail": expired.detail}
    fail_unended(due(timezone.now()).filter(batch__isnull=True, created_at__lt=before), error)
    for batch in batches.open_batches().filter(created_at__lt=before):
        batches.fail_rest(batch, error={**error, "detail": f"{expired.detail} {batch.reason}".strip()})
        batches.complete_if_done(batch)
    batches.sweep_left()


def _announce_ended() -> None:
    """Tell of predictions that ended: the mark that one was told of and the message are one commit."""
    ended = Prediction.objects.filter(announced=False, batch__isnull=True, ended_at__isnull=False)
    while found := list(ended.select_related("version__model__owner").order_by("ended_at")[:100]):
        listening = set(
            WebhookEndpoint.objects.filter(organization__in={row.organization_id for row in found}, disabled_at__isnull=True).values_list(
                "organization_id", flat=True
            )
        )
        silent = [row.pk for row in found if row.organization_id not in listening]
        Prediction.objects.filter(pk__in=silent).update(announced=True)
        for row in found:
            if row.organization_id in listening:
                _announce(row)


@transaction.atomic
def _announce(row: Prediction) -> None:
    if Prediction.objects.filter(pk=row.pk, announced=False).update(announced=True):
        also = [row.endpoint_id] if row.endpoint_id else []
        emit(row.organization_id, f"prediction.{row.status}", _event_fields(row), also=also)


def _event_fields(row: Prediction) -> dict[str, Any]:
    """Return what a webhook tells of a prediction: all but its output, which may be large, and is one GET away."""
    usage = orjson.loads(bytes(row.output))["usage"] if row.output else None
    return {
        "object": "prediction",
        "id": public_id("prd", row.pk),
        "status": row.status,
        "model": row.version.model.path,
        "version": row.version.number,
        "livemode": row.livemode,
        "usage": usage,
        "error": row.error,
        "url": f"{settings.SITE_URL}/v1/predictions/{public_id('prd', row.pk)}",
    }
