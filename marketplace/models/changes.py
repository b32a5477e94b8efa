"""The change feed that keeps every process's snapshot of control data true."""

from django.db import models


class ControlChange(models.Model):
    """A notice, written with the change itself, that cached control data is stale.

    Processes poll `id > last seen`. On PostgreSQL ids may become visible out of order, so
    readers look back over a few seconds (`gateway/feed.py`).
    """

    class Subject(models.TextChoices):
        """What changed."""

        KEY = "key"
        ORGANIZATION = "organization"
        MODEL = "model"

    subject = models.CharField(max_length=12, choices=Subject)
    reference = models.CharField(max_length=64)  # The key's digest, or the row's id.
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    def __str__(self) -> str:
        return f"{self.subject} {self.reference}"
