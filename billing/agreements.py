"""What an account's plans mean for its calls: which price holds when, within which quota."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from billing.leases import BudgetSpec
from billing.models import EVERYTHING, Plan, Subscription
from billing.periods import month_of
from billing.prices import terms_of
from billing.pricing import Terms

# Calls accepted for later run at the price of when they were accepted: ended plans are known that much longer.
_KEPT: Final = timedelta(days=8)
# How the budgets whose amounts are units begin.
QUOTA_PREFIX: Final = "quota:"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What holds for the calls of a stretch of time."""

    terms: Terms
    quota: BudgetSpec | None  # Of a hard quota: how many units. Counted by month, as everything is.
    rate_per_minute: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One subscription, for the gateway."""

    scope: str
    unit: str
    starts_at: datetime
    first_ends_at: datetime  # The month's end that it began in.
    ends_at: datetime | None  # Where a fee was not paid: when what was paid ended.
    first: Allowance  # Until `first_ends_at`,
    rest: Allowance  # and from then on.

    def at(self, moment: datetime) -> Allowance | None:
        """Return what holds at a moment; None where the plan does not."""
        if moment < self.starts_at or (self.ends_at is not None and moment >= self.ends_at):
            return None
        return self.first if moment < self.first_ends_at else self.rest

    def quota_at(self, moment: datetime) -> BudgetSpec | None:
        """Return the hard quota that calls count on which run at a moment, whenever they were accepted.

        That of the month in which they run, which was paid for. Of a plan that has ended: of its last month, for what is
        left of that was paid, and a month after it was not.
        """
        if self.ends_at is None or moment < self.ends_at:
            return (self.first if moment < self.first_ends_at else self.rest).quota
        last = self.ends_at - timedelta(microseconds=1)
        quota = (self.first if last < self.first_ends_at else self.rest).quota
        return quota and replace(quota, past=month_of(last)[0])


def agreements_of(account_id: UUID) -> Sequence[Agreement]:
    """Return the account's subscriptions, and those that ended lately; single scopes before `EVERYTHING`, the newest first.

    Not one that was changed: what was unused of it is given back, so calls that still wait do not use it. And not one
    whose month is unpaid: it rests until the fee is paid, or a quota would be free in its days of grace.
    """
    recent = Q(ends_at__isnull=True) | Q(ends_at__gt=timezone.now() - _KEPT)
    rows = Subscription.objects.filter(recent, account=account_id).select_related("plan__usage_price", "first_price")
    rows = rows.exclude(state=Subscription.State.ENDED, reason=Subscription.Reason.CHANGED).exclude(state=Subscription.State.UNPAID)
    found = [_agreement(row) for row in rows.order_by("-starts_at", "-pk")]
    return sorted(found, key=lambda agreement: agreement.scope == EVERYTHING)


def allowance_at(agreements: Sequence[Agreement], *, meter: str, unit: str, moment: datetime) -> Allowance | None:
    """Return what a plan says of the units of a meter at a moment; None where no plan covers them."""
    for agreement in agreements:
        if agreement.scope in {meter, EVERYTHING} and agreement.unit == unit:
            allowance = agreement.at(moment)
            if allowance is not None:
                return allowance
    return None


def quota_subject(terms: Terms) -> str:
    """Return the name of the budget that counts a hard quota's units: one for each stretch of time with a quota of its own."""
    return f"{QUOTA_PREFIX}{terms.price_id.hex}"


def _agreement(row: Subscription) -> Agreement:
    return Agreement(
        scope=row.scope,
        unit=row.plan.unit,
        starts_at=row.starts_at,
        first_ends_at=row.first_ends_at,
        ends_at=None if row.ends_at is None else min(row.ends_at, row.paid_until),
        first=_allowance(row, terms_of(row.first_price), row.first_included_units),
        rest=_allowance(row, terms_of(row.plan.usage_price), row.plan.included_units),
    )


def _allowance(row: Subscription, terms: Terms, included_units: int | None) -> Allowance:
    quota = None
    if row.plan.quota == Plan.Quota.HARD:
        quota = BudgetSpec(account_id=row.account_id, subject=quota_subject(terms), interval="month", limit_nanos=included_units or 0)
    return Allowance(terms, quota, row.plan.rate_per_minute)
