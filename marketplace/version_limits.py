"""How a version's calls wait, how many run together, and how large one may be: the operator's to set."""

from dataclasses import dataclass, fields

from django.db import transaction

from inference.batching import BatchLimits
from marketplace import audit
from marketplace.changes import model_changed
from marketplace.models import ModelVersion, User


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLimits:
    """A version's own limits; None for the site's."""

    max_batch_rows: int | None = None  # 1 to 256; 1 runs every row alone.
    max_batch_tokens: int | None = None  # Rows x longest, padding included.
    max_queue_delay_us: int | None = None  # Longest a row waits for others although a worker is free.
    max_queue_rows: int | None = None  # More are refused with 503.
    max_body_bytes: int | None = None  # Of one call.
    allow_nonfinite: bool = False  # Whether NaN and the infinities may be sent.


def limits_of(version: ModelVersion) -> VersionLimits:
    """Return the limits that a version has of its own."""
    return VersionLimits(**{field.name: getattr(version, field.name) for field in fields(VersionLimits)})


def batch_limits_of(version: ModelVersion) -> BatchLimits:
    """Return how the engine queues and batches a version: its own limits over the defaults."""
    usual = BatchLimits()
    delay_us = version.max_queue_delay_us
    return BatchLimits(
        max_rows=version.max_batch_rows or usual.max_rows,
        max_tokens=version.max_batch_tokens or usual.max_tokens,
        max_queue_delay_us=usual.max_queue_delay_us if delay_us is None else delay_us,
        max_queue_rows=version.max_queue_rows,
    )


@transaction.atomic
def set_version_limits(version: ModelVersion, limits: VersionLimits, *, by: User | str) -> None:
    """Give a version other limits; calls that come a second later meet them. Nothing is loaded anew."""
    before = limits_of(version)
    changed = [field.name for field in fields(limits) if getattr(limits, field.name) != getattr(before, field.name)]
    if not changed:
        return
    for name in changed:
        setattr(version, name, getattr(limits, name))
    version.save(update_fields=changed)
    model_changed(version.model)
    details = {name: {"from": getattr(before, name), "to": getattr(limits, name)} for name in changed}
    audit.record(version.model.owner, action="version.limited", target=version, by=by, details=details)
