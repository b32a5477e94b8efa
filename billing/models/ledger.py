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

    class Meta:
        indexes = [models.Index(fields=["created_at"], name="ledger_by_time")]  # What came since the last sums.

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

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="credit_grants")
    amount_nanos = models.BigIntegerField()
    kind = models.CharField(max_length=10, choices=Kind)
    reference = models.CharField(max_length=200, unique=True)
    by = models.CharField(max_length=120)
    transaction = models.OneToOneField(LedgerTransaction, models.PROTECT, related_name="+")
    expires_at = models.DateTimeField(null=True, blank=True)  # Unspent by then, it leaves; None: never.
    priority = models.PositiveSmallIntegerField(default=50)  # 0 is used first, 100 last.
    # What the account had spent by then: `credits.py` tells from it which grant paid for what.
    spent_before_nanos = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_nanos__gt=0), name="grant_positive"),
            models.CheckConstraint(condition=Q(priority__lte=100), name="grant_priority_in_range"),
        ]
        indexes = [models.Index(fields=["expires_at"], name="grant_by_expiry", condition=Q(expires_at__isnull=False))]

    def __str__(self) -> str:
        return f"{self.amount_nanos} nanos, {self.kind}"


class CreditExpiry(models.Model):
    """What was unspent of a grant when it had expired, and left the account. Append-only.

    Several of one grant: what running calls held at the first is taken, where they give it back, by the next.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="credit_expiries")
    grant = models.ForeignKey(CreditGrant, models.PROTECT, related_name="expiries")
    amount_nanos = models.BigIntegerField()
    spent_before_nanos = models.BigIntegerField()  # What the account had spent by then.
    is_final = models.BooleanField()  # Nothing of it is left: the grant is not looked at again.
    transaction = models.OneToOneField(LedgerTransaction, models.PROTECT, null=True, related_name="+")  # None: it was spent whole.
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_nanos__gte=0), name="expiry_not_negative"),
            models.CheckConstraint(condition=Q(amount_nanos=0) | Q(transaction__isnull=False), name="expiry_is_posted"),
            models.UniqueConstraint(fields=["grant"], condition=Q(is_final=True), name="expiry_final_once"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_nanos} nanos of {self.grant_id}"
