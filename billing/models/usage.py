"""What was used: facts, their hourly sums, and what was given back."""

from django.db import models
from django.db.models import F, Q

from billing.ids import uuid7
from billing.models.accounts import Account
from billing.models.budgets import GatewayProcess
from billing.models.prices import Price


class UsageEvent(models.Model):
    """One metered fact: `account` used `units` of `sku`. Append-only, by trigger."""

    # Minted by the gateway, never the client's: a reused id would be a free call.
    id = models.UUIDField(primary_key=True)
    account = models.ForeignKey(Account, models.PROTECT, related_name="usage_events", db_index=False)
    # As frozen at admission; None for a test key's call, which is free.
    price = models.ForeignKey(Price, models.PROTECT, null=True, related_name="+", db_index=False)
    sku = models.CharField(max_length=120)
    unit = models.CharField(max_length=10)
    units = models.BigIntegerField()
    charge_nanos = models.BigIntegerField()
    livemode = models.BooleanField()
    source = models.CharField(max_length=80)  # Opaque here: the key's id.
    # The budgets that paid, as "3,17": a refund must find them, and a table of pairs would
    # double the rows written per call.
    budgets = models.CharField(max_length=120, blank=True)
    process = models.ForeignKey(GatewayProcess, models.PROTECT, related_name="+", db_index=False)
    seq = models.BigIntegerField()  # Ascending within the process.
    cached = models.BooleanField(default=False)  # Answered from the cache, at that price where the price has one.
    replayable = models.BooleanField()  # The reply is stored: the caller can fetch it again.
    occurred_at = models.DateTimeField()

    class Meta:
        constraints = [
            # Also the index that recovery reads by.
            models.UniqueConstraint(fields=["process", "seq"], name="usage_seq_once_per_process"),
            models.CheckConstraint(condition=Q(units__gt=0), name="usage_units_positive"),
            models.CheckConstraint(condition=Q(charge_nanos__gte=0), name="usage_charge_not_negative"),
            models.CheckConstraint(condition=Q(price__isnull=False) | Q(charge_nanos=0), name="usage_charge_has_price"),
            models.CheckConstraint(condition=Q(livemode=True) | Q(charge_nanos=0), name="usage_test_is_free"),
        ]
        indexes = [
            models.Index(fields=["account", "sku", "occurred_at"], name="usage_by_sku"),
            models.Index(fields=["account", "occurred_at"], name="usage_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.units} x {self.sku}"


class LateUsage(models.Model):
    """That an event was settled after its month was closed, and whose month's invoice it is on instead. Append-only, by trigger."""

    event = models.OneToOneField(UsageEvent, models.PROTECT, primary_key=True, related_name="late")
    account = models.ForeignKey(Account, models.PROTECT, related_name="late_usage", db_index=False)
    period = models.DateTimeField()  # The month, by its first moment, whose invoice it is on: the first after the last closed one.
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["account", "period"], name="late_by_period")]

    def __str__(self) -> str:
        return f"{self.event_id} on {self.period:%Y-%m}"


class UsageCounter(models.Model):
    """What an account used of a meter in one month, or ever: where its next unit falls in a price's tiers.

    Counted by calls at prices with tiers alone, and never down: a call that is refunded keeps its
    place, so that every later charge stays what it was.
    """

    account = models.ForeignKey(Account, models.PROTECT, related_name="+", db_index=False)
    meter = models.CharField(max_length=120)
    unit = models.CharField(max_length=10)
    starts_at = models.DateTimeField()  # The month's first moment; 1970 for all time, which trials count by.
    units = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "meter", "unit", "starts_at"], name="counter_once_per_month"),
            models.CheckConstraint(condition=Q(units__gte=0), name="counter_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.meter} {self.starts_at:%Y-%m}: {self.units} {self.unit}s"


class UsageRollup(models.Model):
    """The sum of an hour's events that agree in all but the call itself. Written with them.

    `events`, `units` and `charge_nanos` are gross; what was refunded is counted beside.
    """

    account = models.ForeignKey(Account, models.PROTECT, related_name="usage_rollups", db_index=False)
    price = models.ForeignKey(Price, models.PROTECT, null=True, related_name="+", db_index=False)
    sku = models.CharField(max_length=120)
    unit = models.CharField(max_length=10)
    livemode = models.BooleanField()
    source = models.CharField(max_length=80)
    hour = models.DateTimeField()  # Its first moment, UTC.
    events = models.BigIntegerField()
    units = models.BigIntegerField()
    charge_nanos = models.BigIntegerField()
    refunded_events = models.BigIntegerField(default=0)
    refunded_units = models.BigIntegerField(default=0)
    refunded_nanos = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            # Two, because NULLs are distinct to a plain unique index. The hour comes second:
            # pages read one account's span of hours.
            models.UniqueConstraint(
                fields=["account", "hour", "sku", "unit", "source", "livemode", "price"],
                condition=Q(price__isnull=False),
                name="rollup_once_priced",
            ),
            models.UniqueConstraint(
                fields=["account", "hour", "sku", "unit", "source", "livemode"],
                condition=Q(price__isnull=True),
                name="rollup_once_free",
            ),
            models.CheckConstraint(
                condition=Q(
                    refunded_events__lte=F("events"),
                    refunded_units__lte=F("units"),
                    refunded_nanos__lte=F("charge_nanos"),
                ),
                name="rollup_refunds_at_most_all",
            ),
        ]
        # The two above are partial: neither finds the rows of an account, priced and free. Nothing here changes with a
        # call, so a row is indexed when its hour begins and not again.
        indexes = [
            models.Index(fields=["account", "hour"], name="rollup_by_account"),
            models.Index(fields=["hour"], name="rollup_by_hour"),
        ]

    def __str__(self) -> str:
        return f"{self.sku} {self.hour:%Y-%m-%d %H:00}"


class UsageRefund(models.Model):
    """One event's charge given back in full. Append-only, by trigger."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    event = models.OneToOneField(UsageEvent, models.PROTECT, related_name="refund")
    account = models.ForeignKey(Account, models.PROTECT, related_name="usage_refunds", db_index=False)
    charge_nanos = models.BigIntegerField()
    reason = models.CharField(max_length=200)
    by = models.CharField(max_length=120)
    # When it counts on the bill: with its event while that period is open, else now.
    booked_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(charge_nanos__gte=0), name="refund_not_negative")]
        indexes = [
            models.Index(fields=["account", "booked_at"], name="refund_by_booking"),
            models.Index(fields=["account", "created_at"], name="refund_by_creation"),
        ]

    def __str__(self) -> str:
        return f"{self.charge_nanos} nanos: {self.reason}"
