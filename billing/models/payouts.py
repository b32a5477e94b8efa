"""Who is paid out, what was sent to them, and what came back of it."""

from django.db import models
from django.db.models import Q

from billing.ids import uuid7
from billing.models.accounts import Account
from billing.money import NANOS_PER_CENT


class PayoutAccount(models.Model):
    """A provider of models at the payment provider (Stripe: a connected account)."""

    account = models.OneToOneField(Account, models.PROTECT, related_name="payout_account")
    country = models.CharField(max_length=2, blank=True)  # Empty: nobody asked for it to be made yet.
    connected_id = models.CharField(max_length=80, blank=True)  # The payment provider's; empty until it has answered.
    attempt = models.PositiveSmallIntegerField(default=0)  # Counts the refusals to make it.
    failure = models.CharField(max_length=300, blank=True)  # Why it was refused last.
    transfers_enabled = models.BooleanField(default=False)  # It may be sent money.
    payouts_enabled = models.BooleanField(default=False)  # Its bank account may.
    charges_enabled = models.BooleanField(default=False)
    details_submitted = models.BooleanField(default=False)
    requirements_due = models.JSONField(default=list)  # ["external_account", ...], in the payment provider's words.
    disabled_reason = models.CharField(max_length=120, blank=True)
    held_at = models.DateTimeField(null=True, blank=True)  # Since when the operator has nothing sent.
    suspended_at = models.DateTimeField(null=True, blank=True)  # Since when its organization is suspended.
    refreshed_at = models.DateTimeField(null=True, blank=True)  # When the payment provider was asked last.
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["connected_id"], condition=~Q(connected_id=""), name="payout_connected_id_once"),
        ]

    def __str__(self) -> str:
        return self.connected_id or f"payout account of {self.account_id}"

    @property
    def is_onboarded(self) -> bool:
        """Whether it may be sent money."""
        return bool(self.connected_id) and self.transfers_enabled


class PayoutRun(models.Model):
    """One week's or month's sending to all providers. The row is the claim on it; one that dies is gone on with."""

    period = models.CharField(max_length=10, unique=True)  # "2026-W48", "2026-11".
    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    payouts = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return self.period


class Payout(models.Model):
    """Money sent to a provider, once: it leaves their balance in the commit that asks for it. Its state only moves forward."""

    class Status(models.TextChoices):
        """How far it is."""

        WAITING = "waiting"  # Asked for, or about to be.
        FAILED = "failed"  # Refused; it is in the provider's balance again.
        PAID = "paid"  # The payment provider has sent it.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="payouts")
    amount_cents = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    connected_id = models.CharField(max_length=80)  # Where it goes.
    status = models.CharField(max_length=10, choices=Status, default=Status.WAITING)
    transfer_id = models.CharField(max_length=80, blank=True)  # The payment provider's; empty until it has answered.
    by = models.CharField(max_length=120)
    failure = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_cents__gt=0), name="payout_positive"),
            models.UniqueConstraint(fields=["transfer_id"], condition=~Q(transfer_id=""), name="payout_once_per_transfer"),
            # Two runs at once must not send one balance twice.
            models.UniqueConstraint(fields=["account", "currency"], condition=Q(status="waiting"), name="payout_one_waiting_at_once"),
        ]
        indexes = [models.Index(fields=["account", "created_at"], name="payout_by_time")]

    def __str__(self) -> str:
        return f"{self.amount_cents} cents, {self.status}"

    @property
    def amount_nanos(self) -> int:
        """What was sent."""
        return self.amount_cents * NANOS_PER_CENT

    @property
    def came_back_nanos(self) -> int:
        """What of it came back."""
        done = [reversal.amount_cents for reversal in self.reversals.all() if reversal.status == PayoutReversal.Status.DONE]
        return sum(done) * NANOS_PER_CENT


class PayoutReversal(models.Model):
    """Money of a payout that came back: by us, for a debt, or found out when somebody did so at the payment provider."""

    class Status(models.TextChoices):
        """How far it is. Once it is in the provider's balance, it is done."""

        WAITING = "waiting"
        FAILED = "failed"  # The account there holds too little. The debt stays, and is taken from the next payout.
        DONE = "done"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    payout = models.ForeignKey(Payout, models.PROTECT, related_name="reversals")
    amount_cents = models.BigIntegerField()
    status = models.CharField(max_length=10, choices=Status, default=Status.WAITING)
    reversal_id = models.CharField(max_length=80, blank=True)  # The payment provider's; empty until it has answered.
    reason = models.CharField(max_length=200)
    by = models.CharField(max_length=120)
    failure = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_cents__gt=0), name="payout_reversal_positive"),
            models.UniqueConstraint(fields=["reversal_id"], condition=~Q(reversal_id=""), name="payout_reversal_once"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_cents} cents, {self.status}"


class PayoutCheck(models.Model):
    """One day's comparison of our payouts with the payment provider's own list of transfers. The row is the claim on it."""

    day = models.DateField(unique=True)
    finished_at = models.DateTimeField(null=True, blank=True)  # None: it runs, or died.
    transfers = models.PositiveIntegerField(default=0)  # How many were compared.
    differences = models.PositiveIntegerField(default=0)
    first = models.CharField(max_length=300, blank=True)  # The first difference, in words.

    def __str__(self) -> str:
        return f"{self.day}: {self.differences} differences"


class BankPayout(models.Model):
    """Money on its way from a provider's account at the payment provider to their bank: theirs, and only shown here."""

    payout_id = models.CharField(max_length=80, primary_key=True)  # The payment provider's.
    account = models.ForeignKey(Account, models.PROTECT, related_name="bank_payouts")
    amount_cents = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    status = models.CharField(max_length=20)  # Stripe's: "paid", "failed", ...
    failure = models.CharField(max_length=80, blank=True)
    arrives_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["account", "created_at"], name="bank_payout_by_time")]

    def __str__(self) -> str:
        return f"{self.payout_id}, {self.status}"

    @property
    def amount_nanos(self) -> int:
        """What arrives."""
        return self.amount_cents * NANOS_PER_CENT
