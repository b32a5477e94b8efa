"""Plans: a monthly fee, what it includes, and who subscribes to it."""

from django.db import models
from django.db.models import Q

from billing.ids import uuid7
from billing.models.accounts import Account
from billing.models.prices import Price
from billing.models.usage import UsageEvent
from billing.money import CURRENCY

# The scope of a plan that covers whatever is sold.
EVERYTHING = "*"


class Plan(models.Model):
    """What a month's fee buys. A trigger refuses every change but its retirement, and its deletion.

    Scopes are opaque here: the meter of what is covered ("farebox/sentiment"), or `EVERYTHING`.
    """

    class Quota(models.TextChoices):
        """What happens when the included units are used up."""

        HARD = "hard"  # Calls are refused until the next month.
        SOFT = "soft"  # Further units cost the overage price.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    scope = models.CharField(max_length=90)
    code = models.CharField(max_length=24)  # As bills name it, after the scope.
    name = models.CharField(max_length=80)
    currency = models.CharField(max_length=3, default=CURRENCY)
    fee_nanos = models.BigIntegerField()  # Of a whole month.
    unit = models.CharField(max_length=10)  # Only what is sold by it is covered.
    included_units = models.BigIntegerField(null=True, blank=True)  # In a whole month; None: without limit.
    quota = models.CharField(max_length=4, choices=Quota)
    rate_per_minute = models.PositiveIntegerField(null=True, blank=True)  # Calls under the plan; None: as any other.
    fee_price = models.OneToOneField(Price, models.PROTECT, related_name="+")
    usage_price = models.OneToOneField(Price, models.PROTECT, related_name="+")  # Of units under it, in a whole month.
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)  # Nobody new; who has it keeps it.

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["scope", "code", "currency"], name="plan_code_once_per_scope"),
            models.CheckConstraint(condition=Q(fee_nanos__gte=0), name="plan_fee_not_negative"),
            models.CheckConstraint(condition=Q(included_units__isnull=True) | Q(included_units__gt=0), name="plan_includes_something"),
            models.CheckConstraint(condition=~Q(quota="hard") | Q(included_units__isnull=False), name="plan_hard_quota_has_a_limit"),
            models.CheckConstraint(condition=Q(unit__in=["call", "token", "row", "byte"]), name="plan_unit_known"),
        ]

    def __str__(self) -> str:
        return self.sku

    @property
    def sku(self) -> str:
        """Its fee, as bills name it: "plan:farebox/sentiment:team"."""
        return f"plan:{self.scope}:{self.code}"


class Subscription(models.Model):
    """An account's time on a plan. A change ends it, and begins the next with `previous`."""

    class State(models.TextChoices):
        """How it stands."""

        ACTIVE = "active"
        UNPAID = "unpaid"  # The month's fee could not be paid; the plan goes on until `grace_until`.
        ENDED = "ended"

    class Reason(models.TextChoices):
        """Why it ended, or will."""

        CANCELLED = "cancelled"
        CHANGED = "changed"
        LAPSED = "lapsed"  # The fee stayed unpaid.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="subscriptions")
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="subscriptions")
    scope = models.CharField(max_length=90)  # The plan's, for the constraint.
    state = models.CharField(max_length=8, choices=State, default=State.ACTIVE)
    starts_at = models.DateTimeField()
    # The rest of the month that it began in has a price of its own: included units by the part.
    first_ends_at = models.DateTimeField()
    first_included_units = models.BigIntegerField(null=True, blank=True)
    first_price = models.OneToOneField(Price, models.PROTECT, related_name="+")
    paid_until = models.DateTimeField()  # First moment that no fee is paid for.
    grace_until = models.DateTimeField(null=True, blank=True)
    ends_at = models.DateTimeField(null=True, blank=True)  # First moment after it, where that is known.
    reason = models.CharField(max_length=10, choices=Reason, blank=True)
    previous = models.OneToOneField("self", models.PROTECT, null=True, blank=True, related_name="next")
    created_by = models.CharField(max_length=120)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "scope"], condition=~Q(state="ended"), name="subscription_once_per_scope"),
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gte=models.F("starts_at")), name="subscription_ends_after_start"
            ),
            models.CheckConstraint(condition=~Q(state="ended") | Q(ends_at__isnull=False), name="subscription_ended_has_end"),
            models.CheckConstraint(condition=~Q(state="unpaid") | Q(grace_until__isnull=False), name="subscription_unpaid_has_grace"),
        ]
        indexes = [models.Index(fields=["paid_until"], name="subscription_due", condition=~Q(state="ended"))]

    def __str__(self) -> str:
        return f"{self.account_id}: {self.scope} from {self.starts_at:%Y-%m-%d}"


class SubscriptionFee(models.Model):
    """A fee that was charged, once for each stretch of time. Append-only, by trigger."""

    subscription = models.ForeignKey(Subscription, models.PROTECT, related_name="fees")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    event = models.OneToOneField(UsageEvent, models.PROTECT, related_name="+")  # How it stands on bills, receipts and in the books.

    class Meta:
        constraints = [models.UniqueConstraint(fields=["subscription", "starts_at"], name="fee_once_per_month")]

    def __str__(self) -> str:
        return f"{self.subscription_id} {self.starts_at:%Y-%m}"
