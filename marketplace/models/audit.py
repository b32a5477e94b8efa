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
