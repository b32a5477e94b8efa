"""What proves each call to its customer: a signed receipt beside each event."""

from django.db import models
from django.db.models import Q

from billing.models.accounts import Account
from billing.models.usage import UsageEvent


class Receipt(models.Model):
    """One event's receipt. Its text is made anew from the event each time: an edited event no longer fits its hash. Append-only."""

    event = models.OneToOneField(UsageEvent, models.PROTECT, primary_key=True, related_name="receipt")
    account = models.ForeignKey(Account, models.PROTECT, related_name="receipts", db_index=False)
    seq = models.BigIntegerField()  # In the account's chain, from 1, without a gap.
    hash = models.BinaryField(max_length=32)  # SHA-256 of the receipt; the next one names it.
    previous = models.BinaryField(max_length=32)  # Of the one before: kept here, so that its loss does not hide in this one's.
    input_hash = models.BinaryField(max_length=32)  # SHA-256 of the request's body; empty: not known.
    model_digest = models.CharField(max_length=64, blank=True)  # SHA-256 of the artifact that answered.
    # Its place in the tree of its group, whose root is signed: index, size, and 32 bytes a step.
    position = models.PositiveIntegerField()
    size = models.PositiveIntegerField()
    path = models.BinaryField()
    signature = models.BinaryField(max_length=64)
    key_id = models.CharField(max_length=16)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "seq"], name="receipt_once_per_number"),
            models.CheckConstraint(condition=Q(seq__gt=0), name="receipt_numbers_from_one"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} #{self.seq}"


class ReceiptHead(models.Model):
    """Where an account's chain of receipts ends. Locked by who adds to it."""

    account = models.OneToOneField(Account, models.PROTECT, primary_key=True, related_name="receipt_head")
    seq = models.BigIntegerField()
    hash = models.BinaryField(max_length=32)

    def __str__(self) -> str:
        return f"{self.account_id} #{self.seq}"


class ReceiptKey(models.Model):
    """A public key that receipts were signed with. Kept for ever, or old receipts could not be checked. Append-only."""

    id = models.CharField(max_length=16, primary_key=True)
    public = models.CharField(max_length=64)  # 32 bytes in hexadecimal.
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.id
