"""What the payment provider's meters are told of usage, what they hold of it, and what went wrong there."""

import hashlib

from django.db import models
from django.db.models import Q

from billing.ids import uuid7
from billing.models.accounts import Account
from billing.models.stripe import StripeEvent


class MeterFeed(models.Model):
    """One meter at the provider that is fed."""

    class Quantity(models.TextChoices):
        """What it counts."""

        CHARGE = "charge"  # What calls cost, in millionths of the account's currency.
        CALLS = "calls"

    event_name = models.CharField(max_length=100, unique=True)
    quantity = models.CharField(max_length=10, choices=Quantity)
    # The first moment of the month in which it was turned on: what is on the bills from then on is told.
    started_at = models.DateTimeField()
    meter_id = models.CharField(max_length=80, blank=True, default="")  # The provider's; empty until it was found or made.
    failure = models.CharField(max_length=300, blank=True, default="")  # Why there is none, if so.
    fed_at = models.DateTimeField(null=True, blank=True)  # When all that was posted by then had its reports.

    class Meta:
        constraints = [models.UniqueConstraint(fields=["meter_id"], condition=~Q(meter_id=""), name="feed_once_per_meter")]

    def __str__(self) -> str:
        return self.event_name


class MeterReport(models.Model):
    """What a meter is told of one hour of an account, or of what changed of it later: one event there. Its amounts never change."""

    class Status(models.TextChoices):
        """What became of it."""

        WAITING = "waiting"  # Not sent yet, or without a known outcome.
        ACCEPTED = "accepted"  # Which is not yet counted: the provider counts later, and may find fault then.
        EMPTY = "empty"  # Less than the meter's smallest unit: nothing to send, carried on to the next.
        REFUSED = "refused"
        TOO_OLD = "too_old"  # The provider takes nothing of before 35 days.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    feed = models.ForeignKey(MeterFeed, models.PROTECT, related_name="reports", db_index=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="meter_reports")
    hour = models.DateTimeField()  # Of the postings: its first moment, UTC.
    period = models.DateTimeField()  # The month, by its first moment, whose invoice they are on.
    number = models.PositiveIntegerField()  # From 1 within feed, account, hour and period.
    amount = models.BigIntegerField()  # Nanos, or calls: what the postings came to. Refunds are negative.
    value = models.BigIntegerField()  # What is sent: whole units of the meter. All together they are the whole of all amounts.
    counted_at = models.DateTimeField()  # The moment that it counts at there: within the period.
    status = models.CharField(max_length=10, choices=Status, default=Status.WAITING)
    failure = models.CharField(max_length=300, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["feed", "account", "hour", "period", "number"], name="meter_report_once"),
            models.CheckConstraint(condition=~Q(status="empty") | Q(value=0), name="meter_report_empty_sends_nothing"),
        ]
        indexes = [models.Index(fields=["feed", "account", "counted_at"], name="meter_report_by_day")]

    def __str__(self) -> str:
        return self.identifier

    @property
    def identifier(self) -> str:
        """Its name there: made of what it is of, so that it is the same however often it is made, and counts once."""
        feed = hashlib.sha256(self.feed.event_name.encode()).hexdigest()[:8]
        return f"farebox-{feed}-{self.account_id.hex}-{self.hour:%Y%m%d%H}-{self.period:%Y%m}-{self.number}"


class MeterHolding(models.Model):
    """What a meter held of an account's day when it was last looked at."""

    feed = models.ForeignKey(MeterFeed, models.PROTECT, related_name="holdings", db_index=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="meter_holdings")
    day = models.DateTimeField()  # Its first moment, UTC.
    value = models.BigIntegerField()
    looked_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["feed", "account", "day"], name="meter_holding_once_per_day")]

    def __str__(self) -> str:
        return f"{self.value} on {self.day:%Y-%m-%d}"


class MeterFault(models.Model):
    """Something the provider said, after it had accepted events, that it did not count. Append-only."""

    event = models.ForeignKey(StripeEvent, models.PROTECT, related_name="meter_faults")
    feed = models.ForeignKey(MeterFeed, models.PROTECT, null=True, related_name="faults")  # None: of no meter that we feed.
    code = models.CharField(max_length=80)
    count = models.PositiveIntegerField()
    report = models.ForeignKey(MeterReport, models.PROTECT, null=True, related_name="faults")  # One that it names.
    message = models.CharField(max_length=300)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["event", "code", "report"], name="meter_fault_once")]

    def __str__(self) -> str:
        return f"{self.code} ({self.count})"
