"""What the ledger says of usage: one row an hour, SKU and price; and who gets which share of it."""

from django.db import models
from django.db.models import F, Q

from billing.ids import uuid7
from billing.models.accounts import Account
from billing.models.ledger import LedgerTransaction
from billing.models.prices import Price


class SkuShare(models.Model):
    """Who is paid for a SKU's calls, and what the site keeps, from an hour on until the next row. Append-only."""

    subject = models.CharField(max_length=120)  # A price's meter, such as a model of many versions, or a SKU.
    payee = models.ForeignKey(Account, models.PROTECT, null=True, related_name="+")  # None: nobody, the site keeps all.
    fee_basis_points = models.PositiveIntegerField()  # Hundredths of a percent.
    effective_from = models.DateTimeField()  # The first moment of an hour.
    by = models.CharField(max_length=120)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["subject", "effective_from"], name="share_once_per_moment"),
            models.CheckConstraint(condition=Q(fee_basis_points__lte=10_000), name="share_fee_at_most_all"),
        ]

    def __str__(self) -> str:
        return f"{self.subject}: {self.fee_basis_points} basis points from {self.effective_from:%Y-%m-%d %H:%M}"


class UsagePosting(models.Model):
    """What an account's calls of one SKU at one price came to in one hour, or a correction of that. Append-only.

    `events`, `units` and the amounts are what this row adds; a refund's are negative. The range and the
    root are of all calls that the hour's row and its corrections before stand for, this one's included:
    of a refund, of all its refunded calls; of a rebate, of the invoice line's calls.
    """

    class Kind(models.TextChoices):
        """What is posted."""

        USAGE = "usage"
        REFUND = "refund"
        REBATE = "rebate"  # Charges nothing: moves part of the share back to the site.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="usage_postings", db_index=False)
    hour = models.DateTimeField()  # Of the calls: its first moment, UTC.
    sku = models.CharField(max_length=120)
    price = models.ForeignKey(Price, models.PROTECT, related_name="+", db_index=False)
    unit = models.CharField(max_length=10)
    number = models.PositiveIntegerField()  # From 1 within account, hour, SKU and price.
    kind = models.CharField(max_length=10, choices=Kind)
    period = models.DateTimeField()  # The month, by its first moment, whose invoice it is on.
    corrects = models.ForeignKey("self", models.PROTECT, null=True, related_name="corrections")
    events = models.BigIntegerField()
    units = models.BigIntegerField()
    charge_nanos = models.BigIntegerField()
    fee_nanos = models.BigIntegerField()
    share_nanos = models.BigIntegerField()
    payee = models.ForeignKey(Account, models.PROTECT, null=True, related_name="share_postings", db_index=False)
    fee_basis_points = models.PositiveIntegerField()
    range_events = models.BigIntegerField()
    first_event = models.UUIDField()
    last_event = models.UUIDField()
    first_seq = models.BigIntegerField(null=True)  # Of the receipts; None where there are none.
    last_seq = models.BigIntegerField(null=True)
    merkle_root = models.CharField(max_length=64, blank=True)  # Hexadecimal.
    transaction = models.OneToOneField(LedgerTransaction, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "hour", "sku", "price", "number"], name="posting_once_per_number"),
            models.CheckConstraint(condition=Q(charge_nanos=F("fee_nanos") + F("share_nanos")), name="posting_splits_exactly"),
            models.CheckConstraint(condition=Q(payee__isnull=False) | Q(share_nanos=0), name="posting_share_has_payee"),
            models.CheckConstraint(condition=Q(charge_nanos=0) | Q(transaction__isnull=False), name="posting_charge_is_in_ledger"),
        ]
        indexes = [
            models.Index(fields=["payee", "period"], condition=Q(payee__isnull=False), name="posting_by_payee"),
            models.Index(fields=["account", "period"], name="posting_by_period"),
        ]

    def __str__(self) -> str:
        return f"{self.sku} {self.hour:%Y-%m-%d %H:00} #{self.number}"
