"""Who pays."""

from django.db import models
from django.db.models import Q

from billing.ids import uuid7
from billing.money import CURRENCY


class Account(models.Model):
    """A payer: holds credit, owns budgets, is billed. An organization of the marketplace points to one."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=120)
    currency = models.CharField(max_length=3, default=CURRENCY)
    created_at = models.DateTimeField(auto_now_add=True)
    # What it may owe: with one, its months are billed afterwards. Given by the operator.
    credit_line_nanos = models.BigIntegerField(default=0)
    line_ended_at = models.DateTimeField(null=True, blank=True)  # When it was last taken away: what was owed by then is still collected.
    line_withdrawn_at = models.DateTimeField(null=True, blank=True)  # Since when an unpaid invoice has stopped the line.
    suspended_at = models.DateTimeField(null=True, blank=True)  # Set by the operator; the door refuses its callers.
    # Since when the books' differences keep it from being charged, which ones, and which of them the operator let pass.
    under_review_at = models.DateTimeField(null=True, blank=True)
    review_words = models.CharField(max_length=300, blank=True, default="")
    review_signature = models.CharField(max_length=300, blank=True, default="")
    review_accepted = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(credit_line_nanos__gte=0), name="credit_line_not_negative")]

    def __str__(self) -> str:
        return self.name

    @property
    def usable_line_nanos(self) -> int:
        """What of the credit line is part of its budget now."""
        return 0 if self.line_withdrawn_at else self.credit_line_nanos
