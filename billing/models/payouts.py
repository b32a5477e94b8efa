"""Who is paid out, what was sent to them, and what came back of it."""

from django.db import models
from django.db.models import Q

from billing.models.accounts import Account


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
