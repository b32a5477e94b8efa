"""Who pays by which card, what was paid in, and what was taken back."""

from django.db import models
from django.db.models import F, Q

from billing.ids import uuid7
from billing.models.accounts import Account
from billing.models.ledger import LedgerTransaction


class Customer(models.Model):
    """An account at the payment provider."""

    account = models.OneToOneField(Account, models.PROTECT, related_name="customer")
    customer_id = models.CharField(max_length=80, blank=True)  # The provider's; empty until it has answered.
    chosen_card = models.CharField(max_length=80, blank=True)  # The card to charge; empty: the newest.
    frozen_at = models.DateTimeField(null=True, blank=True)  # Since when a dispute stops payments.
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["customer_id"], condition=~Q(customer_id=""), name="customer_id_once"),
        ]

    def __str__(self) -> str:
        return self.customer_id or f"customer of {self.account_id}"


class Card(models.Model):
    """A saved payment method: what tells it apart. Its number never comes here."""

    customer = models.ForeignKey(Customer, models.PROTECT, related_name="cards")
    card_id = models.CharField(max_length=80, unique=True)
    brand = models.CharField(max_length=30)
    last4 = models.CharField(max_length=4, blank=True)
    exp_month = models.PositiveSmallIntegerField()
    exp_year = models.PositiveSmallIntegerField()
    attached_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True, blank=True)  # For good: a detached card never comes back.

    def __str__(self) -> str:
        return f"{self.brand} …{self.last4}"


class TopUp(models.Model):
    """Credit being bought: on a Checkout page, or with a saved card. Its state only moves forward."""

    class Source(models.TextChoices):
        """Who started it."""

        CHECKOUT = "checkout"  # A person, who pays on the provider's page.
        AUTO = "auto"  # Auto-recharge, with the saved card.

    class Status(models.TextChoices):
        """How far it is. `paid` wins over all: the money is there."""

        CREATED = "created"  # Nobody has been asked, or has answered.
        OPEN = "open"  # The Checkout page waits.
        PROCESSING = "processing"  # A bank debit is on its way.
        EXPIRED = "expired"
        FAILED = "failed"
        PAID = "paid"  # And credited, in the same commit.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="top_ups")
    amount_cents = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    source = models.CharField(max_length=10, choices=Source)
    status = models.CharField(max_length=10, choices=Status, default=Status.CREATED)
    by = models.CharField(max_length=120)
    card_id = models.CharField(max_length=80, blank=True)  # Of an auto-recharge.
    checkout_id = models.CharField(max_length=120, blank=True)
    checkout_url = models.TextField(blank=True)
    payment_id = models.CharField(max_length=80, blank=True)
    failure = models.CharField(max_length=80, blank=True)  # "card_declined", "authentication_required", ...
    created_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_cents__gt=0), name="top_up_positive"),
            models.UniqueConstraint(fields=["payment_id"], condition=~Q(payment_id=""), name="top_up_once_per_payment"),
            # Two sweeps at once must not charge twice for one low balance.
            models.UniqueConstraint(
                fields=["account"], condition=Q(source="auto", status__in=["created", "open", "processing"]), name="top_up_one_auto_at_once"
            ),
        ]
        indexes = [
            models.Index(fields=["account", "created_at"], name="top_up_by_time"),
            models.Index(fields=["created_at"], name="top_up_unsettled", condition=Q(status__in=["created", "open", "processing"])),
        ]

    def __str__(self) -> str:
        return f"{self.amount_cents} cents, {self.status}"


class CreditReversal(models.Model):
    """Credit taken back from an account, once per reference: its payment was refunded or disputed. Append-only."""

    class Kind(models.TextChoices):
        """Why."""

        REFUND = "refund"
        DISPUTE = "dispute"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="credit_reversals")
    amount_nanos = models.BigIntegerField()
    spent_nanos = models.BigIntegerField(null=True)  # What of it had been spent by then, so that it is owed now. None: not known.
    kind = models.CharField(max_length=10, choices=Kind)
    reference = models.CharField(max_length=200, unique=True)
    by = models.CharField(max_length=120)
    transaction = models.OneToOneField(LedgerTransaction, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_nanos__gt=0), name="reversal_positive"),
            models.CheckConstraint(
                condition=Q(spent_nanos__isnull=True) | Q(spent_nanos__gte=0, spent_nanos__lte=F("amount_nanos")),
                name="reversal_spent_is_part",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount_nanos} nanos, {self.kind}"


class PaymentRefund(models.Model):
    """A payment given back, in part or in full; the credit that it bought is taken back in the same commit."""

    class Status(models.TextChoices):
        """How far it is. A refund that succeeded may still come back as failed."""

        PENDING = "pending"
        SUCCEEDED = "succeeded"
        FAILED = "failed"  # The credit was given again.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    top_up = models.ForeignKey(TopUp, models.PROTECT, related_name="refunds")
    amount_cents = models.BigIntegerField()
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    refund_id = models.CharField(max_length=80, blank=True)  # The provider's; empty until it has answered.
    reason = models.CharField(max_length=200)
    by = models.CharField(max_length=120)
    failure = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_cents__gt=0), name="payment_refund_positive"),
            models.UniqueConstraint(fields=["refund_id"], condition=~Q(refund_id=""), name="payment_refund_once"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_cents} cents, {self.status}"


class Dispute(models.Model):
    """A payment that the card's owner has their bank take back. Its state only moves forward."""

    class Status(models.TextChoices):
        """How far it is."""

        INQUIRY = "inquiry"  # The bank asks; no money was taken.
        OPEN = "open"  # The money and its credit are gone until it is decided.
        WON = "won"
        LOST = "lost"

    dispute_id = models.CharField(max_length=80, primary_key=True)  # The provider's.
    top_up = models.ForeignKey(TopUp, models.PROTECT, related_name="disputes")
    amount_cents = models.BigIntegerField()
    status = models.CharField(max_length=10, choices=Status)
    reason = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    # Of a lost one: what was refunded of the calls that it had paid for, and since when no more is.
    refunded_nanos = models.BigIntegerField(default=0)
    refunded_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.dispute_id}, {self.status}"


class AutoRecharge(models.Model):
    """Buys credit with the saved card when the balance falls below a threshold."""

    account = models.OneToOneField(Account, models.PROTECT, related_name="auto_recharge")
    is_on = models.BooleanField(default=False)
    threshold_nanos = models.BigIntegerField()
    amount_cents = models.BigIntegerField()
    monthly_ceiling_cents = models.BigIntegerField()  # Of all auto-recharges of a calendar month, UTC.
    paused_at = models.DateTimeField(null=True, blank=True)  # A card was refused: a person has to see to it.
    pause_reason = models.CharField(max_length=80, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(threshold_nanos__gte=0), name="recharge_threshold_not_negative"),
            models.CheckConstraint(condition=Q(amount_cents__gt=0), name="recharge_amount_positive"),
            models.CheckConstraint(condition=Q(monthly_ceiling_cents__gte=F("amount_cents")), name="recharge_ceiling_holds_one"),
        ]

    def __str__(self) -> str:
        return f"{'on' if self.is_on else 'off'}, {self.amount_cents} cents"


class Notice(models.Model):
    """Something that an account's people have to be told by mail, once."""

    class Kind(models.TextChoices):
        """What happened."""

        AUTHENTICATION_REQUIRED = "authentication_required"  # The saved card's bank wants its owner.
        CARD_DECLINED = "card_declined"
        CEILING_REACHED = "ceiling_reached"  # Auto-recharge has bought what it may this month.
        DISPUTE_OPENED = "dispute_opened"
        INVOICE_DUE = "invoice_due"
        INVOICE_PAST_DUE = "invoice_past_due"
        LINE_WITHDRAWN = "line_withdrawn"  # Calls are refused until it is paid.
        LINE_RESTORED = "line_restored"
        TAX_LOCATION = "tax_location"  # An invoice's tax waits for the customer's address.
        PLAN_UNPAID = "plan_unpaid"  # A month's fee could not be paid; the plan rests.
        PLAN_LAPSED = "plan_lapsed"  # It stayed unpaid, so the plan has ended.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="notices")
    kind = models.CharField(max_length=40, choices=Kind)
    subject = models.CharField(max_length=80)  # What it is about: told once.
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "subject"], name="payment_notice_once")]
        indexes = [models.Index(fields=["created_at"], name="notice_unsent", condition=Q(sent_at__isnull=True))]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"
