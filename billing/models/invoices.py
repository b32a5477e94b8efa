"""What a closed period came to."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from billing.ids import uuid7
from billing.models.accounts import Account
from billing.models.prices import Price


class Invoice(models.Model):
    """An account's bill for one closed period, [starts_at, ends_at). Its lines and amounts never change; its status moves forward.

    In nanos: the lines' charges + carried_in = total_cents * 10**7 + carried_out. The total includes its tax.
    """

    class Status(models.TextChoices):
        """What became of it."""

        CLOSED = "closed"  # Drawn from prepaid credit; nothing is left to pay.
        OPEN = "open"  # Something is due.
        PAST_DUE = "past_due"  # It was not paid in time, or the card was refused.
        UNCOLLECTIBLE = "uncollectible"  # Given up: the debt stays.
        VOID = "void"  # Taken back: nothing is owed for it any more.
        PAID = "paid"

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
    status = models.CharField(max_length=16, choices=Status, default=Status.CLOSED)
    # What no credit covered when the month was closed, collected by the provider: of a postpaid account.
    due_cents = models.BigIntegerField(default=0)
    tax_name = models.CharField(max_length=40, blank=True, default="")
    tax_basis_points = models.PositiveIntegerField(default=0)
    tax_cents = models.BigIntegerField(default=0)  # Of the total, within it.
    # Who sells to whom, as it stood when the month was closed: lines of an address.
    seller = models.JSONField(default=list)
    buyer = models.JSONField(default=list)
    provider_id = models.CharField(max_length=80, blank=True, default="")  # The provider's; empty until it has answered.
    hosted_url = models.TextField(blank=True, default="")  # Where it is paid.
    paid_cents = models.BigIntegerField(default=0)
    due_at = models.DateTimeField(null=True, blank=True)
    past_due_at = models.DateTimeField(null=True, blank=True)  # Since when.
    settled_at = models.DateTimeField(null=True, blank=True)  # Paid, or void.
    failure = models.CharField(max_length=300, blank=True, default="")  # Why it could not be collected, last.
    # The number of the account's last receipt when the month was closed: what came later is late. None: not known.
    sealed_seq = models.BigIntegerField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-starts_at"]
        constraints = [
            models.UniqueConstraint(fields=["account", "starts_at"], name="invoice_once_per_period"),
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="invoice_ends_after_start"),
            models.CheckConstraint(condition=Q(status="closed") | Q(due_cents__gt=0), name="invoice_collected_is_due"),
            models.UniqueConstraint(fields=["provider_id"], condition=~Q(provider_id=""), name="invoice_once_at_provider"),
        ]
        indexes = [models.Index(fields=["due_at"], name="invoice_unpaid", condition=Q(status__in=["open", "past_due"]))]

    def __str__(self) -> str:
        return self.number

    @property
    def net_cents(self) -> int:
        """The total without its tax."""
        return self.total_cents - self.tax_cents

    @property
    def is_unpaid(self) -> bool:
        """Whether somebody has to pay it."""
        return self.status in {self.Status.OPEN, self.Status.PAST_DUE}


class InvoiceLine(models.Model):
    """One SKU at one price: the sum of its events less refunds, rounded once to cents, half to even."""

    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="lines")
    price = models.ForeignKey(Price, models.PROTECT, related_name="+")
    sku = models.CharField(max_length=120)
    unit = models.CharField(max_length=10)
    # The month that its calls are of, by its first moment, where they came after that was closed; None: the invoice's own.
    late_from = models.DateTimeField(null=True)
    events = models.BigIntegerField()
    units = models.BigIntegerField()
    charge_nanos = models.BigIntegerField()  # Negative where refunds of closed periods outweigh.
    amount_cents = models.BigIntegerField()
    remainder_nanos = models.BigIntegerField()
    # Of the receipts of its events, in hexadecimal; empty where none has one.
    merkle_root = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        constraints = [
            # Two, because NULLs are distinct to a plain unique index.
            models.UniqueConstraint(fields=["invoice", "sku", "price"], condition=Q(late_from__isnull=True), name="line_once_per_price"),
            models.UniqueConstraint(
                fields=["invoice", "sku", "price", "late_from"], condition=Q(late_from__isnull=False), name="line_once_per_late_month"
            ),
            models.CheckConstraint(
                condition=Q(charge_nanos=F("amount_cents") * 10_000_000 + F("remainder_nanos")), name="line_loses_nothing"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name}: {self.amount_cents} cents"

    @property
    def name(self) -> str:
        """The SKU, and the month it is of where that is not the invoice's."""
        return f"{self.sku} ({self.late_from:%Y-%m})" if self.late_from else self.sku
