"""Who did what: an append-only, hash-chained record."""

from typing import ClassVar

from django.db import models

from billing.ids import uuid7
from marketplace.models.tenants import Organization


class AuditEvent(models.Model):
    """One deed. `hash` covers its content and the event before it, so an edit shows."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    sequence = models.PositiveBigIntegerField(unique=True)  # Gap-free, so that a deletion shows.
    organization = models.ForeignKey(Organization, models.PROTECT, null=True, related_name="audit_events")
    by = models.CharField(max_length=254)  # E-mail address, "key:<id>" or "system".
    action = models.CharField(max_length=60)  # "key.issued".
    target = models.CharField(max_length=120)
    details = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta:
        ordering: ClassVar[list[str]] = ["-sequence"]
        indexes = [models.Index(fields=["organization", "-sequence"], name="audit_by_organization")]

    def __str__(self) -> str:
        return f"{self.action} {self.target} by {self.by}"


class AuditCheck(models.Model):
    """One hour's check of the chain. The row is the claim on it, so that one process does the work."""

    hour = models.DateTimeField(unique=True)  # Its first moment, UTC.
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)  # None: it runs, or died.
    # Where the chain ended when it last held: the next check looks for this event.
    last_sequence = models.PositiveBigIntegerField(default=0)
    last_hash = models.CharField(max_length=64, blank=True)
    broken_sequence = models.PositiveBigIntegerField(null=True)  # None: the chain holds.
    words = models.CharField(max_length=200, blank=True)  # How it is broken.

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00}: {'holds' if self.broken_sequence is None else 'broken'}"
