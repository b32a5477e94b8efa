"""What organizations set of their budgets: caps on spending, and when to be told how full they are."""

from typing import Final, NamedTuple
from uuid import UUID

from django.db import models

from marketplace.models.keys import ApiKey
from marketplace.models.tenants import Organization

INTERVALS: Final = ("day", "month", "total")
DEFAULT_THRESHOLDS: Final = (50, 80, 100)


def default_thresholds() -> list[int]:
    """Return the percentages at which an organization is told where it set none."""
    return list(DEFAULT_THRESHOLDS)


class BudgetName(NamedTuple):
    """Which budget is meant: what billing's opaque subject stands for here."""

    holder: str  # "balance", "organization", "key"; "" for those that others name.
    interval: str  # One of `INTERVALS`.
    cap_id: UUID | None = None  # Of a key and those it was rotated from.

    @property
    def subject(self) -> str:
        """What billing calls it. A key's month came first and has no suffix."""
        if self.holder == "balance":
            return "account"
        if self.holder == "organization":
            return f"organization:{self.interval}"
        return f"key:{self.cap_id}" if self.interval == "month" else f"key:{self.cap_id}:{self.interval}"

    @property
    def policy(self) -> str:
        """The name of the limit in a 402."""
        if self.holder == "balance":
            return "balance"
        adjective = {"day": "daily", "month": "monthly", "total": "total"}[self.interval]
        return f"organization_{adjective}_cap" if self.holder == "organization" else f"{adjective}_cap"


BALANCE: Final = BudgetName("balance", "total")


def name_of(subject: str) -> BudgetName:
    """Return what one of billing's subjects stands for; its holder is "" where it is none of ours."""
    if subject == "account":
        return BALANCE
    head, _, tail = subject.partition(":")
    if head == "organization" and tail in INTERVALS:
        return BudgetName("organization", tail)
    text, _, interval = tail.partition(":")
    if head == "key" and (interval or "month") in INTERVALS:
        try:
            return BudgetName("key", interval or "month", UUID(text))
        except ValueError:
            pass
    return BudgetName("", "total")


class Cap(models.Model):
    """A limit that an organization set on itself or on a key, and the percentages of a budget at which it is told.

    The balance's limit is its credit, and a key's monthly cap is the key's own: rows of those hold percentages only.
    """

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="caps")
    subject = models.CharField(max_length=80)  # `BudgetName.subject`.
    limit_nanos = models.PositiveBigIntegerField(null=True, blank=True)
    thresholds = models.JSONField(default=default_thresholds, blank=True)  # Percentages, ascending; empty: never told.

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "subject"], name="cap_once_per_budget")]

    def __str__(self) -> str:
        return self.subject


def is_capped(key: ApiKey) -> bool:
    """Whether a key has any cap of its own. Asks the database."""
    if key.monthly_cap_nanos is not None:
        return True
    subjects = [BudgetName("key", interval, key.cap_id).subject for interval in INTERVALS]
    return Cap.objects.filter(organization=key.organization_id, subject__in=subjects, limit_nanos__isnull=False).exists()
