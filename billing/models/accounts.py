"""Who pays."""

from django.db import models

from billing.ids import uuid7
from billing.money import CURRENCY


class Account(models.Model):
    """A payer: holds credit, owns budgets, is billed. An organization of the marketplace points to one."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=120)
    currency = models.CharField(max_length=3, default=CURRENCY)
    created_at = models.DateTimeField(auto_now_add=True)
    suspended_at = models.DateTimeField(null=True, blank=True)  # Set by the operator; the door refuses its callers.

    def __str__(self) -> str:
        return self.name
