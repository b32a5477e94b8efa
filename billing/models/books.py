"""When the books were checked, and what came of it."""

from django.db import models
from django.db.models import Q


class BooksRun(models.Model):
    """One hour's check of the books. The row is the claim on it, so that one process does the work."""

    hour = models.DateTimeField(unique=True)  # Its first moment, UTC.
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)  # None: it runs, or died.
    differences = models.PositiveIntegerField(default=0)
    difference_nanos = models.BigIntegerField(default=0)  # Of all differences together, regardless of sign.
    first = models.CharField(max_length=300, blank=True)  # The first of them, in words.

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(differences=0, difference_nanos=0, first="") | Q(differences__gt=0) & ~Q(first=""), name="books_run_says_what"
            )
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00}: {self.differences} differences"


class BooksCheckpoint(models.Model):
    """The months before a moment, as a full check found them without a difference. Deleted, the next check is a full one."""

    until = models.DateTimeField(unique=True)  # A month's first moment: of calls.
    refunds_until = models.DateTimeField()  # Of refunds, of whatever calls, by when they were made.
    spent = models.JSONField()  # Budget's id -> what it had spent, in nanos.
    made_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"until {self.until:%Y-%m}"
