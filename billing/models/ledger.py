"""Money as double entry, and the credit given to accounts."""

from django.db import models
from django.db.models import F, Q

from billing.ids import uuid7
from billing.models.accounts import Account
from billing.money import CURRENCY


class LedgerAccount(models.Model):
    """A place money can be: an account's credit, the promotion fund, the revenue."""

    name = models.CharField(max_length=120, unique=True)  # "credit:<account id>", "promotion", "revenue".
    account = models.ForeignKey(Account, models.PROTECT, null=True, blank=True, related_name="ledger_accounts")
    currency = models.CharField(max_length=3, default=CURRENCY)

    def __str__(self) -> str:
        return self.name


class LedgerTransaction(models.Model):
    """Entries that sum to zero, as one fact. Append-only.

    Triggers hold the sum: entries are written first (their foreign key is checked at commit),
    a transaction is accepted only if its entries sum to zero, and no entry after it.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=20)  # "grant", "usage".
    reference = models.CharField(max_length=200, unique=True)  # What makes posting it twice impossible.
    by = models.CharField(max_length=120)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.kind} {self.reference}"


class LedgerEntry(models.Model):
    """An amount that came into (positive) or left (negative) a ledger account. Append-only."""

    transaction = models.ForeignKey(LedgerTransaction, models.PROTECT, related_name="entries")
    ledger_account = models.ForeignKey(LedgerAccount, models.PROTECT, related_name="entries")
    amount_nanos = models.BigIntegerField()

    class Meta:
        constraints = [models.CheckConstraint(condition=~Q(amount_nanos=0), name="entry_not_zero")]

    def __str__(self) -> str:
        return f"{self.ledger_account_id}: {self.amount_nanos}"


class CreditPool(models.Model):
    """A finite amount of credit to give away: what a flood of sign-ups can cost."""

    name = models.CharField(max_length=40, unique=True)
    limit_nanos = models.BigIntegerField()
    granted_nanos = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(granted_nanos__gte=0), name="pool_granted_not_negative"),
            models.CheckConstraint(condition=Q(granted_nanos__lte=F("limit_nanos")), name="pool_never_overdrawn"),
        ]

    def __str__(self) -> str:
        return self.name


class CreditGrant(models.Model):
    """Credit given to an account, once per reference. Append-only."""

    class Kind(models.TextChoices):
        """Where the credit came from."""

        FREE = "free"
        OPERATOR = "operator"
        TOP_UP = "top_up"  # Paid for.
        INVOICE = "invoice"  # A month paid afterwards.
        NOTE = "note"  # A closed invoice was corrected.
        WAIVED = "waived"  # An invoice is not owed any more.
        REBATE = "rebate"  # What a month at a volume price was charged too much.
        PRORATION = "proration"  # The unused part of a fee, given back when a plan is changed.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="credit_grants")
    amount_nanos = models.BigIntegerField()
    kind = models.CharField(max_length=10, choices=Kind)
    reference = models.CharField(max_length=200, unique=True)
    by = models.CharField(max_length=120)
    transaction = models.OneToOneField(LedgerTransaction, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(amount_nanos__gt=0), name="grant_positive")]

    def __str__(self) -> str:
        return f"{self.amount_nanos} nanos, {self.kind}"
