"""What a unit costs, from when on."""

from django.db import models
from django.db.models import Q

from billing.ids import uuid7
from billing.money import CURRENCY


class Price(models.Model):
    """The price of a SKU's units from a moment on, until the next of its currency takes effect.

    A trigger refuses changes and deletion: what was promised and billed stays readable.
    """

    class Unit(models.TextChoices):
        """What is counted."""

        CALL = "call"
        TOKEN = "token"  # noqa: S105 (a time step of a model, not a credential)
        ROW = "row"
        BYTE = "byte"  # Of the request's body; shown by the megabyte.
        MONTH = "month"  # Of a plan: its fee.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    sku = models.CharField(max_length=120)  # Opaque here: "farebox/sentiment@3".
    unit = models.CharField(max_length=10, choices=Unit)
    # Of each unit where the price is plain; of one with a shape, the dearest unit's: lists sort by it.
    unit_nanos = models.BigIntegerField()
    shape = models.JSONField(null=True, blank=True)  # `shapes.render_shape`; None: plain.
    meter = models.CharField(max_length=120, blank=True, default="")  # Counted together for tiers; empty: the SKU.
    currency = models.CharField(max_length=3, default=CURRENCY)
    effective_from = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sku", "currency", "effective_from"], name="price_once_per_moment"),
            models.CheckConstraint(condition=Q(unit_nanos__gte=0), name="price_not_negative"),
            models.CheckConstraint(condition=Q(unit__in=["call", "token", "row", "byte", "month"]), name="price_unit_known"),
        ]

    def __str__(self) -> str:
        return f"{self.sku}: {self.unit_nanos} nanos per {self.unit}"
