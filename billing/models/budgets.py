"""What may be spent, and which process has which part of it."""

from django.db import models
from django.db.models import Q

from billing.ids import uuid7
from billing.models.accounts import Account


class Budget(models.Model):
    """A limit over a period: an account's credit ("account", total), or a cap by whatever name its owner gives it.

    `spent + leased <= limit` is the condition of the UPDATE that gives a lease (`leases.py`), not
    a constraint: lowering a cap below what is spent must be possible, and only stops new leases.
    """

    class Interval(models.TextChoices):
        """How often the budget starts anew."""

        TOTAL = "total"  # Never: one row for ever.
        DAY = "day"  # Each calendar day in UTC: one row per day, made on first use.
        MONTH = "month"  # Each calendar month in UTC: one row per month, made on first use.

    account = models.ForeignKey(Account, models.PROTECT, related_name="budgets")
    subject = models.CharField(max_length=80)
    interval = models.CharField(max_length=10, choices=Interval)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)  # First moment after it; None for total.
    limit_nanos = models.BigIntegerField()
    spent_nanos = models.BigIntegerField(default=0)
    leased_nanos = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            # By account, too: every account has a budget called "account". A month and its first day begin
            # at once, so budgets of different intervals have different subjects.
            models.UniqueConstraint(fields=["account", "subject", "starts_at"], name="budget_once_per_period"),
            models.CheckConstraint(condition=Q(limit_nanos__gte=0), name="budget_limit_not_negative"),
            models.CheckConstraint(condition=Q(spent_nanos__gte=0), name="budget_spent_not_negative"),
            models.CheckConstraint(condition=Q(leased_nanos__gte=0), name="budget_leased_not_negative"),
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gt=models.F("starts_at")), name="budget_ends_after_start"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject} from {self.starts_at:%Y-%m-%d}"


class GatewayProcess(models.Model):
    """One process that holds leases and settles calls.

    Alive while its heartbeat is fresh. A process that is reclaimed is fenced: its next commit
    finds `reclaimed_at` set and writes nothing.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()
    # Number of its last commit: how it learns, after losing the connection, whether that happened.
    commit_seq = models.BigIntegerField(default=0)
    # All its events up to this `seq` reached their callers; later ones are refunded if it dies.
    delivered_seq = models.BigIntegerField(default=0)
    closed_at = models.DateTimeField(null=True, blank=True)  # Ended in good order.
    reclaimed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            # Not on the heartbeat, which every commit changes: the few rows in it are read whole.
            models.Index(fields=["started_at"], name="process_unreclaimed", condition=Q(reclaimed_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Lease(models.Model):
    """The part of a budget that one process may settle calls against."""

    budget = models.ForeignKey(Budget, models.PROTECT, related_name="leases", db_index=False)
    process = models.ForeignKey(GatewayProcess, models.PROTECT, related_name="leases")
    amount_nanos = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["budget", "process"], name="lease_once_per_process"),
            models.CheckConstraint(condition=Q(amount_nanos__gte=0), name="lease_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_nanos} nanos"
