"""What a closed period came to."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from billing.ids import uuid7
from billing.models.accounts import Account
from billing.models.prices import Price


class Invoice(models.Model):
    """An account's bill for one closed period, [starts_at, ends_at). Its lines never change.

    In nanos: the lines' charges + carried_in = total_cents * 10**7 + carried_out.
    """

    class Status(models.TextChoices):
        """What became of it."""

        CLOSED = "closed"  # Drawn from prepaid credit; nothing is left to pay.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    number = models.CharField(max_length=40, unique=True)
    account = models.ForeignKey(Account, models.PROTECT, related_name="invoices", db_index=False)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    currency = models.CharField(max_length=3)
    # What rounding left over in the period before, its whole cents in this one, and what this leaves.
    carried_in_nanos = models.BigIntegerField(default=0)
    carried_in_cents = models.BigIntegerField(default=0)
    carried_out_nanos = models.BigIntegerField(default=0)
    total_cents = models.BigIntegerField()
    status = models.CharField(max_length=10, choices=Status, default=Status.CLOSED)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-starts_at"]
        constraints = [
            models.UniqueConstraint(fields=["account", "starts_at"], name="invoice_once_per_period"),
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="invoice_ends_after_start"),
        ]

    def __str__(self) -> str:
        return self.number


class InvoiceLine(models.Model):
    """One SKU at one price: the sum of its events less refunds, rounded once to cents, half to even."""

    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="lines")
    price = models.ForeignKey(Price, models.PROTECT, related_name="+")
    sku = models.CharField(max_length=120)
    unit = models.CharField(max_length=10)
    events = models.BigIntegerField()
    units = models.BigIntegerField()
    charge_nanos = models.BigIntegerField()  # Negative where refunds of closed periods outweigh.
    amount_cents = models.BigIntegerField()
    remainder_nanos = models.BigIntegerField()
    # Of the receipts of its events, in hexadecimal; empty where none has one.
    merkle_root = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["invoice", "sku", "price"], name="line_once_per_price"),
            models.CheckConstraint(
                condition=Q(charge_nanos=F("amount_cents") * 10_000_000 + F("remainder_nanos")), name="line_loses_nothing"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.sku}: {self.amount_cents} cents"
