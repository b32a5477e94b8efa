"""Subscribe to a plan, change it, end it, and renew it each month. What it comes to is quoted before, by the same function."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from billing.agreements import quota_subject
from billing.customers import notify
from billing.errors import AlreadySubscribed, FeeUnpaid, PlanNotOffered, QuoteOutdated, SubscriptionEnded
from billing.fees import charge_fee, lock_credit
from billing.ids import uuid7
from billing.models import Account, Budget, Notice, Plan, Price, Subscription, SubscriptionFee, UsageCounter, UsageRefund
from billing.money import Nanos
from billing.periods import month_of
from billing.plans import shape_with
from billing.prices import set_price, shape_of_price, terms_of
from billing.pricing import Terms
from billing.proration import Span, given_back, part_of
from billing.refunding import refund_event

# For so long what was shown can be confirmed, to the nano.
SHOWN_FOR: Final = timedelta(minutes=15)
_LIVE = (Subscription.State.ACTIVE, Subscription.State.UNPAID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What it comes to, to begin a plan now, in place of another one of its scope where there is one."""

    plan: Plan
    previous: Subscription | None
    as_of: datetime  # The moment that it holds for; confirm with it, and it is charged to the nano.
    month_ends_at: datetime  # When the whole fee falls due for the first time.
    charge_nanos: Nanos  # The fee's part for the rest of the month,
    credit_nanos: Nanos  # what of the fee before is given back for it,
    included_units: int | None  # and the part of the included units.

    @property
    def due_nanos(self) -> int:
        """What leaves the balance; below 0: what comes back to it."""
        return self.charge_nanos - self.credit_nanos


@dataclass(frozen=True, slots=True)
class Used:
    """Where a subscription's quota stands in this month."""

    units: int
    included: int | None
    resets_at: datetime


def live_subscription(account: Account, scope: str) -> Subscription | None:
    """Return the account's subscription of a scope, if it has one that goes on now."""
    found = Subscription.objects.filter(account=account, scope=scope, state__in=_LIVE).select_related("plan").first()
    return None if found is None or _is_over(found, timezone.now()) else found


def quote(account: Account, plan: Plan, *, now: datetime | None = None) -> Quote:
    """Return what it comes to, to begin a plan at a moment. Nothing is changed.

    Raises:
        PlanNotOffered: it takes nobody new, or is of another currency.
        AlreadySubscribed: it is the account's plan already.
    """
    moment = now or timezone.now()
    if plan.retired_at is not None or plan.currency != account.currency:
        raise PlanNotOffered
    month, previous = Span(*month_of(moment)), live_subscription(account, plan.scope)
    if previous is not None and previous.plan_id == plan.pk:
        raise AlreadySubscribed
    rest = Span(moment, month.ends_at)
    included = None if plan.included_units is None else part_of(plan.included_units, month, rest)
    return Quote(
        plan=plan,
        previous=previous,
        as_of=moment,
        month_ends_at=month.ends_at,
        charge_nanos=Nanos(part_of(plan.fee_nanos, month, rest)),
        credit_nanos=_unused(previous, month, moment) if previous else Nanos(0),
        included_units=included,
    )


@transaction.atomic
def subscribe(
    account: Account, plan: Plan, *, by: str, as_of: datetime | None = None, most_nanos: int | None = None, now: datetime | None = None
) -> Subscription:
    """Begin a plan, in place of the one of its scope where there is one; its first fee is paid at once.

    Args:
        account: Whose.
        plan: Which.
        by: Who acts.
        as_of: The moment of the quote that was shown: the plan begins then.
        most_nanos: What it was shown to come to. It may be less, never more: the old quota may have been used meanwhile.
        now: The time, or None for the present.

    Raises:
        PlanNotOffered, AlreadySubscribed: as `quote`.
        QuoteOutdated: it comes to more than `most_nanos`, or `as_of` is too long ago.
        FeeUnpaid: the balance has too little left.
        All leave everything as it was.
    """
    lock_credit(account)  # One change at a time.
    moment = _confirmed(account, plan, as_of, now or timezone.now())
    plan = Plan.objects.select_related("usage_price").get(pk=plan.pk)
    _end_what_is_over(account, plan.scope, moment)
    offer = quote(account, plan, now=moment)
    if most_nanos is not None and offer.due_nanos > most_nanos:
        raise QuoteOutdated
    if offer.previous is not None:
        _end(offer.previous, Subscription.Reason.CHANGED, at=moment)
        if offer.credit_nanos:
            _charge_used_part(offer.previous, offer.credit_nanos, by=by, now=moment)
    return _begin(account, offer, by=by, now=moment)


@transaction.atomic
def cancel(subscription: Subscription) -> Subscription:
    """Let a subscription end when what is paid ends; nothing is given back. Repeating it changes nothing.

    Raises:
        SubscriptionEnded: it has ended already.
    """
    lock_credit(subscription.account)
    row = _get_live(subscription)
    if row.ends_at is None:
        now = timezone.now()
        if row.state == Subscription.State.UNPAID:
            _end(row, Subscription.Reason.CANCELLED, at=now)
        else:
            row.ends_at, row.reason = max(row.paid_until, now), Subscription.Reason.CANCELLED
            row.save(update_fields=["ends_at", "reason"])
    return row


@transaction.atomic
def resume(subscription: Subscription) -> Subscription:
    """Take a cancellation back while the plan still goes on. Repeating it changes nothing.

    Raises:
        SubscriptionEnded: it has ended.
    """
    lock_credit(subscription.account)
    row = _get_live(subscription)
    if row.ends_at is not None:
        row.ends_at, row.reason = None, ""
        row.save(update_fields=["ends_at", "reason"])
    return row


def due_subscriptions(*, now: datetime | None = None) -> list[UUID]:
    """Return the subscriptions whose month is over: to be renewed or ended."""
    due = Subscription.objects.filter(state__in=_LIVE, paid_until__lte=now or timezone.now())
    return list(due.order_by("paid_until", "pk").values_list("pk", flat=True))


@transaction.atomic
def renew(subscription_id: UUID, *, grace: timedelta, now: datetime | None = None) -> Subscription | None:
    """Charge a subscription's month, or end it; return it if anything changed. Safe to run twice, or at the same time as itself.

    A fee that cannot be paid is asked for again at each run, until the grace since the month's beginning is over;
    then the plan lapses, and calls cost what they cost without it.
    """
    moment = now or timezone.now()
    account = Subscription.objects.select_related("account").get(pk=subscription_id).account
    lock_credit(account)
    row = Subscription.objects.select_for_update(of=("self",)).select_related("plan__fee_price", "account").get(pk=subscription_id)
    if row.state not in _LIVE or row.paid_until > moment or row.account.under_review_at is not None:
        return None  # An account whose books differ is charged when that is settled.
    if _is_over(row, moment):
        _end(row, Subscription.Reason.CANCELLED, at=row.ends_at or moment)
        return row
    month = Span(*month_of(moment))
    try:
        with transaction.atomic():
            _charge(row, row.plan.fee_price, starts_at=month.starts_at, ends_at=month.ends_at, occurred_at=moment)
    except FeeUnpaid:
        return _leave_unpaid(row, grace=grace, now=moment)
    row.state, row.grace_until = Subscription.State.ACTIVE, None
    row.save(update_fields=["state", "grace_until", "paid_until"])
    return row


def used_now(subscription: Subscription, *, now: datetime | None = None) -> Used:
    """Return where a subscription's quota stands: what calls that have settled used of it this month."""
    moment = now or timezone.now()
    is_first = moment < subscription.first_ends_at
    price = subscription.first_price if is_first else subscription.plan.usage_price
    included = subscription.first_included_units if is_first else subscription.plan.included_units
    starts_at, ends_at = month_of(moment)
    units = _units_of(subscription, terms_of(price), starts_at)
    return Used(units, included, ends_at)


def _units_of(subscription: Subscription, terms: Terms, starts_at: datetime) -> int:
    if subscription.plan.quota == Plan.Quota.HARD:
        quota = Budget.objects.filter(account=subscription.account_id, subject=quota_subject(terms), starts_at=starts_at)
        return quota.values_list("spent_nanos", flat=True).first() or 0
    counter = UsageCounter.objects.filter(account=subscription.account_id, meter=terms.counted_as, unit=terms.unit, starts_at=starts_at)
    return counter.values_list("units", flat=True).first() or 0


def _charge_used_part(row: Subscription, unused_nanos: Nanos, *, by: str, now: datetime) -> None:
    """Give this month's fee back whole, and charge the part of it that was used as a fee of its own.

    Not a grant of credit: a refund takes the provider's share back, too, and restores the credit that had paid, with
    its day of expiry. Else changing to and fro would make shares of nothing, and expiring credit stay for ever.
    """
    fee = _fee_of(row, now)
    assert fee is not None, "There is something unused, so there is a fee."
    refund_event(fee.event_id, reason="The plan was changed; what was used of it is charged anew.", by=by)
    used = fee.event.charge_nanos - unused_nanos
    if used > 0:
        sku = f"subscription:{row.pk.hex}:until:{now:%Y%m%d%H%M%S%f}"
        price = set_price(sku=sku, unit=Price.Unit.MONTH, unit_nanos=used, meter=row.plan.scope, currency=row.plan.currency)
        charge_fee(row.account, price, sku=row.plan.sku, occurred_at=now)


def _fee_of(row: Subscription, moment: datetime) -> SubscriptionFee | None:
    return row.fees.select_related("event").filter(starts_at__lte=moment, ends_at__gt=moment).first()


def _unused(subscription: Subscription, month: Span, now: datetime) -> Nanos:
    """Return what of the fee that was paid for this month is not used; nothing where it was given back already."""
    fee_row = _fee_of(subscription, now)
    if subscription.paid_until <= now or fee_row is None or UsageRefund.objects.filter(event=fee_row.event_id).exists():
        return Nanos(0)
    paid = Span(max(subscription.starts_at, month.starts_at), month.ends_at)
    used = used_now(subscription, now=now)
    fee = subscription.plan.fee_nanos
    return min(Nanos(fee_row.event.charge_nanos), given_back(fee, month, paid, now=now, used=used.units, included=used.included))


def _begin(account: Account, offer: Quote, *, by: str, now: datetime) -> Subscription:
    identity = uuid7()
    plan = offer.plan
    # Prices of this subscription alone: a month's part has its own fee and quota, and bills must be derivable from them.
    sku = f"subscription:{identity.hex}"
    shape = shape_with(shape_of_price(plan.usage_price), None if plan.quota == Plan.Quota.HARD else offer.included_units)
    fee = set_price(sku=sku, unit=Price.Unit.MONTH, unit_nanos=offer.charge_nanos, meter=plan.scope, currency=plan.currency)
    usage = set_price(sku=f"{sku}:{plan.unit}", unit=plan.unit, shape=shape, meter=sku, currency=plan.currency)
    row = Subscription.objects.create(
        id=identity,
        account=account,
        plan=plan,
        scope=plan.scope,
        starts_at=now,
        first_ends_at=offer.month_ends_at,
        first_included_units=offer.included_units,
        first_price=usage,
        paid_until=offer.month_ends_at,
        previous=offer.previous,
        created_by=by[:120],
    )
    _charge(row, fee, starts_at=now, ends_at=offer.month_ends_at, occurred_at=now)
    return row


def _charge(row: Subscription, price: Price, *, starts_at: datetime, ends_at: datetime, occurred_at: datetime) -> None:
    event = charge_fee(row.account, price, sku=row.plan.sku, occurred_at=occurred_at)
    SubscriptionFee.objects.create(subscription=row, starts_at=starts_at, ends_at=ends_at, event=event)
    row.paid_until = ends_at


def _leave_unpaid(row: Subscription, *, grace: timedelta, now: datetime) -> Subscription | None:
    grace_until = row.grace_until or month_of(now)[0] + grace
    if grace_until <= now:
        _end(row, Subscription.Reason.LAPSED, at=now)
        notify(row.account, Notice.Kind.PLAN_LAPSED, subject=row.pk)
        return row
    if row.state == Subscription.State.UNPAID:
        return None
    row.state, row.grace_until = Subscription.State.UNPAID, grace_until
    row.save(update_fields=["state", "grace_until"])
    notify(row.account, Notice.Kind.PLAN_UNPAID, subject=f"{row.pk}/{now:%Y-%m}")  # Another month's fee is told of again.
    return row


def _end(row: Subscription, reason: str, *, at: datetime) -> None:
    row.state, row.reason, row.ends_at = Subscription.State.ENDED, reason, at
    row.save(update_fields=["state", "reason", "ends_at"])


def _confirmed(account: Account, plan: Plan, as_of: datetime | None, now: datetime) -> datetime:
    """Return the moment that a plan begins: that of the quote, where it still can."""
    if as_of is None:
        return now
    previous = live_subscription(account, plan.scope)
    is_recent = now - SHOWN_FOR <= as_of <= now and month_of(as_of) == month_of(now)
    if not is_recent or (previous is not None and previous.starts_at > as_of):
        raise QuoteOutdated
    return as_of


def _end_what_is_over(account: Account, scope: str, now: datetime) -> None:
    """End a cancelled subscription that the sweep has not come to yet: it must not stand in the way of the next."""
    for row in Subscription.objects.filter(account=account, scope=scope, state__in=_LIVE, ends_at__lte=now):
        _end(row, Subscription.Reason.CANCELLED, at=row.ends_at or now)


def _is_over(row: Subscription, now: datetime) -> bool:
    return row.ends_at is not None and row.ends_at <= now


def _get_live(subscription: Subscription) -> Subscription:
    row = Subscription.objects.select_related("plan", "account").get(pk=subscription.pk)
    if row.state not in _LIVE or _is_over(row, timezone.now()):
        raise SubscriptionEnded
    return row
