"""The rules of batches: read a file, keep its rows, follow, pause, complete and cancel it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import orjson
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone

from billing.ids import public_id, uuid7
from billing.money import to_decimal_string
from billing.periods import render_moment
from marketplace.errors import AlreadyEnded, BatchInvalid, MarketplaceError, ModelNotFound
from marketplace.models import ApiKey, Batch, CatalogueModel, ModelVersion, Organization, Prediction
from marketplace.predictions import ROW_BYTES, cancel_all, check_room, fail_unended
from marketplace.webhooks import emit

_FIELDS: Final = frozenset({"custom_id", "input_data", "parameters"})
# Faults of a file that are named; whoever has more has the same one in every line.
_MAX_FAULTS: Final = 50
# Rows inserted in one transaction: on SQLite live calls wait meanwhile, some 10 ms.
_INSERT_ROWS: Final = 250
# A batch whose money is used up tries one row again after this long.
_PAUSE: Final = timedelta(seconds=60)
# Of one reply with results; the rest is in the next.
RESULT_BYTES: Final = 16 * 1024 * 1024
# Longest that reading a file takes; what is older was left by a process that died.
_LEFT: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a batch file: a predict call, and the caller's name for it."""

    number: int
    custom_id: str
    body: bytes


def parse_lines(content: bytes) -> list[Line]:
    """Read a JSONL file: an object with `input_data`, perhaps `parameters` and `custom_id`, on each line.

    Blank lines are passed over. What a model takes is checked when a row runs.

    Raises:
        BatchInvalid: naming each line that cannot be run, up to 50.
    """
    lines: list[Line] = []
    faults: list[tuple[str, str]] = []
    names: set[str] = set()
    for number, text in enumerate(content.split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            line = _parse_line(number, text)
        except BatchInvalid as fault:
            faults.append((f"line {number}", fault.detail))
            continue
        if line.custom_id and line.custom_id in names:
            faults.append((f"line {number}", f"custom_id {line.custom_id!r} is another line's, too."))
        names.add(line.custom_id)
        lines.append(line)
    if faults:
        message = f"{len(faults)} lines cannot be run; the first: {faults[0][0]}: {faults[0][1]}"
        raise BatchInvalid(message, faults=faults[:_MAX_FAULTS])
    _check_count(len(lines))
    return lines


def _check_count(rows: int) -> None:
    if not rows:
        message = "The file has no lines."
        raise BatchInvalid(message)
    if rows > settings.MAX_BATCH_ROWS:
        message = f"The file has {rows} lines; a batch has at most {settings.MAX_BATCH_ROWS}."
        raise BatchInvalid(message)


def _parse_line(number: int, text: bytes) -> Line:
    if len(text) > settings.MAX_BODY_BYTES:
        message = f"It is longer than the {settings.MAX_BODY_BYTES} bytes of a call."
        raise BatchInvalid(message)
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        message = f"It is not JSON: {error.msg} at character {error.pos}."
        raise BatchInvalid(message) from None
    if not isinstance(fields, dict) or "input_data" not in fields:
        message = 'It must be an object with input_data: {"input_data": ...}.'
        raise BatchInvalid(message)
    if unknown := fields.keys() - _FIELDS:
        message = f"Unknown field {min(unknown)[:40]!r}; a line takes custom_id, input_data and parameters."
        raise BatchInvalid(message)
    custom_id = fields.pop("custom_id", "")
    if not isinstance(custom_id, str) or len(custom_id) > 64 or not custom_id.isprintable():
        message = "custom_id must be a text of at most 64 printable characters."
        raise BatchInvalid(message)
    return Line(number=number, custom_id=custom_id, body=orjson.dumps(fields))


def find_version(organization: Organization, name: str) -> ModelVersion:
    """Return the version that `owner/model` or `owner/model@3` names for an organization.

    Without a number it is the one that gets the most of the model's calls, for all rows.

    Raises:
        ModelNotFound: there is no such live version, or it is not theirs to call.
    """
    path, _, number = name.partition("@")
    owner, _, model_name = path.partition("/")
    models = CatalogueModel.objects.filter(Q(public=True) | Q(owner=organization), owner__slug=owner, name=model_name)
    versions = ModelVersion.objects.filter(model__in=models, state=ModelVersion.State.LIVE).select_related("model__owner")
    if number:
        versions = versions.filter(number=int(number)) if number.isascii() and number.isdigit() and len(number) < 10 else versions.none()
    else:
        versions = versions.filter(traffic_weight__gt=0).order_by("-traffic_weight", "-number")
    version = versions.first()
    if version is None:
        raise ModelNotFound
    return version


def create_batch(*, key: ApiKey, version: ModelVersion, lines: Sequence[Line], endpoint_id: UUID | None) -> Batch:
    """Keep a file's rows and queue them; its bytes count as stored from the start.

    In short transactions, so that live calls pass between them: until the last one the batch is
    being created, runs nothing, and is deleted if this process dies.

    Raises:
        StorageQuotaExceeded: they would take too much room; nothing was kept.
    """
    now = timezone.now()
    size = sum(len(line.body) + ROW_BYTES for line in lines)
    with transaction.atomic():
        organization = Organization.objects.select_for_update().get(pk=key.organization_id)  # Two files at once see each other.
        check_room(organization.pk, size)
        batch = Batch.objects.create(
            organization=organization,
            key=key,
            version=version,
            livemode=key.livemode,
            rows=len(lines),
            input_bytes=size,
            endpoint_id=endpoint_id,
            created_at=now,
        )
    for start in range(0, len(lines), _INSERT_ROWS):
        Prediction.objects.bulk_create([_row(batch, line) for line in lines[start : start + _INSERT_ROWS]])
    Batch.objects.filter(pk=batch.pk).update(status=Batch.Status.QUEUED)
    batch.refresh_from_db()
    return batch


def _row(batch: Batch, line: Line) -> Prediction:
    return Prediction(
        id=uuid7(),
        organization_id=batch.organization_id,
        key_id=batch.key_id,
        batch=batch,
        line=line.number,
        custom_id=line.custom_id,
        version_id=batch.version_id,
        livemode=batch.livemode,
        input=line.body,
        stored_bytes=len(line.body) + ROW_BYTES,
        announced=True,  # With its batch.
        created_at=batch.created_at,
    )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is."""

    total: int
    succeeded: int
    failed: int
    cancelled: int
    charge_nanos: int

    @property
    def ended(self) -> int:
        """Rows that will not run again."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def percent(self) -> float:
        """Of the rows, ended; with one decimal."""
        return int(1000 * self.ended / self.total) / 10 if self.total else 100.0


def progress_of(batch: Batch) -> Progress:
    """Count a batch's rows: from the rows, so that it is never off."""
    rows = batch.predictions.order_by().values("status").annotate(n=Count("pk"), charge=Sum("charge_nanos"))
    counts = {row["status"]: (row["n"], row["charge"]) for row in rows}
    return Progress(
        total=batch.rows,
        succeeded=counts.get("succeeded", (0, 0))[0],
        failed=counts.get("failed", (0, 0))[0],
        cancelled=counts.get("cancelled", (0, 0))[0],
        charge_nanos=sum(charge for _, charge in counts.values()),
    )


# ---------------------------------------------------------------- While it runs


def open_batches() -> QuerySet[Batch]:
    """Return the batches that may have rows to run, the oldest first."""
    return Batch.objects.filter(status__in=Batch.OPEN).order_by("created_at")


def note_started(batch: Batch) -> None:
    """Note that a row of a batch ran: it is not queued or paused any more."""
    now = timezone.now()
    Batch.objects.filter(pk=batch.pk, status__in=Batch.OPEN).update(status=Batch.Status.RUNNING, reason="", not_before=None)
    Batch.objects.filter(pk=batch.pk, started_at__isnull=True).update(started_at=now)


def pause(batch: Batch, *, reason: str) -> None:
    """Let a batch wait, for a budget to have room again; one of its rows is tried now and then."""
    Batch.objects.filter(pk=batch.pk, status__in=Batch.OPEN).update(
        status=Batch.Status.PAUSED, reason=reason, not_before=timezone.now() + _PAUSE
    )


def complete_if_done(batch: Batch) -> bool:
    """End a batch that has no rows left to run, and tell of it; return whether it ended now. Twice changes nothing."""
    if batch.predictions.unended().exists():
        return False
    with transaction.atomic():
        ended = Batch.objects.filter(pk=batch.pk, status__in=Batch.OPEN).update(
            status=Batch.Status.COMPLETED, not_before=None, ended_at=timezone.now(), announced=True
        )
        if ended:
            batch.refresh_from_db()
            emit(batch.organization_id, "batch.completed", batch_fields(batch), also=[batch.endpoint_id] if batch.endpoint_id else [])
    return bool(ended)


def fail_rest(batch: Batch, *, error: MarketplaceError | dict[str, Any]) -> None:
    """Give up all rows that have not ended, for one reason; nothing is charged for them."""
    fields = error if isinstance(error, dict) else {"code": error.code, "detail": error.detail}
    Batch.objects.filter(pk=batch.pk, status__in=Batch.OPEN).update(reason=fields["code"])
    while part := list(batch.predictions.unended().values_list("pk", flat=True)[:_INSERT_ROWS]):
        fail_unended(Prediction.objects.filter(pk__in=part), fields)


def cancel_batch(batch: Batch) -> None:
    """End a batch: its rows that have not ended are not run, or not kept and not charged. Twice changes nothing.

    Raises:
        AlreadyEnded: it was completed.
    """
    now = timezone.now()
    cancelled = Batch.objects.filter(pk=batch.pk, status__in=Batch.OPEN).update(
        status=Batch.Status.CANCELLED, not_before=None, ended_at=now, announced=True
    )
    batch.refresh_from_db()
    if not cancelled and batch.status != Batch.Status.CANCELLED:
        raise AlreadyEnded(status=batch.status)
    while part := list(batch.predictions.unended().values_list("pk", flat=True)[:_INSERT_ROWS]):
        cancel_all(Prediction.objects.filter(pk__in=part))


def sweep_left() -> None:
    """Delete batches whose creation was broken off, and cancel rows that a broken-off cancellation left."""
    for batch in Batch.objects.filter(status=Batch.Status.CREATING, created_at__lt=timezone.now() - _LEFT):
        while part := list(batch.predictions.values_list("pk", flat=True)[:_INSERT_ROWS]):
            Prediction.objects.filter(pk__in=part).delete()
        batch.delete()
    left = Prediction.objects.filter(status__in=Prediction.UNENDED, batch__status=Batch.Status.CANCELLED)
    while part := list(left.values_list("pk", flat=True)[:_INSERT_ROWS]):
        cancel_all(Prediction.objects.filter(pk__in=part))


# ---------------------------------------------------------------- What is shown of it


def batch_fields(batch: Batch) -> dict[str, Any]:
    """Return a batch as the REST API and webhooks show it."""
    progress = progress_of(batch)
    return {
        "object": "batch",
        "id": public_id("bat", batch.pk),
        "status": batch.status,
        "model": batch.version.model.path,
        "version": batch.version.number,
        "livemode": batch.livemode,
        "rows": {
            "total": progress.total,
            "succeeded": progress.succeeded,
            "failed": progress.failed,
            "cancelled": progress.cancelled,
        },
        "cost": to_decimal_string(progress.charge_nanos),
        "currency": batch.organization.account.currency,
        "reason": batch.reason or None,
        "created_at": render_moment(batch.created_at),
        "started_at": render_moment(batch.started_at) if batch.started_at else None,
        "ended_at": render_moment(batch.ended_at) if batch.ended_at else None,
    }


def result_line(row: Prediction) -> bytes:
    """Return an ended row as one JSON line: its prediction and usage, or its error."""
    fields: dict[str, Any] = {"line": row.line, "custom_id": row.custom_id or None, "id": public_id("prd", row.pk), "status": row.status}
    if row.status == Prediction.Status.SUCCEEDED:
        kept = orjson.loads(bytes(row.output))
        fields |= {"prediction": kept["prediction"], "usage": kept["usage"]}
    elif row.error:
        fields["error"] = row.error
    return orjson.dumps(fields) + b"\n"


def read_results(batch: Batch, *, after: int) -> tuple[list[bytes], int]:
    """Return the lines of the rows that have ended, and the last line's number: at least one, and 16 MB at most.

    Args:
        batch: Whose.
        after: The line before the first one wanted.
    """
    written: list[bytes] = []
    size = 0
    for row in batch.predictions.filter(line__gt=after, ended_at__isnull=False).order_by("line").iterator(chunk_size=500):
        line = result_line(row)
        if written and size + len(line) > RESULT_BYTES:
            break
        written.append(line)
        size += len(line)
        after = row.line
    return written, after
