"""Providers' shares: who gets which part of a SKU's charges from when on, what has accrued, and of what.

A share never changes: a new one takes effect at its hour. Nobody earns by calling themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q, Sum
from django.utils import timezone

from billing.errors import ShareInvalid
from billing.models import Account, Price, SkuShare, UsagePosting
from billing.money import Nanos
from billing.periods import hour_of
from billing.plans import PLAN_METERS
from billing.splitting import WHOLE

_HOUR: Final = timedelta(hours=1)


def set_share(subject: str, *, payee: Account | None, fee_basis_points: int, by: str, effective_from: datetime | None = None) -> SkuShare:
    """Have a provider paid for the calls of a SKU from an hour on; return the row.

    Args:
        subject: A price's meter, such as a model of many versions, or a SKU; what is said of the SKU itself goes first.
        payee: Who gets the share; None: nobody, all is the site's.
        fee_basis_points: What the site keeps, in hundredths of a percent.
        by: Who sets it.
        effective_from: The first moment of an hour to come. None: the next hour; for a subject's first share, this hour.

    Raises:
        ShareInvalid: the fee is more than all, the moment is none that a share can begin at, or another begins
            at that very moment. Nothing was changed.
    """
    now = timezone.now()
    if not 0 <= fee_basis_points <= WHOLE:
        message = f"A fee is between 0 and {WHOLE} basis points."
        raise ShareInvalid(message)
    is_first = not SkuShare.objects.filter(subject=subject).exists()
    begins = effective_from or hour_of(now) + (timedelta(0) if is_first else _HOUR)
    if begins != hour_of(begins) or begins <= (now - _HOUR if is_first else now):
        # Hours are posted whole, so one has one share; and calls that were made keep theirs.
        message = "A share takes effect at the beginning of an hour to come."
        raise ShareInvalid(message)
    try:
        with transaction.atomic():
            return SkuShare.objects.create(
                subject=subject, payee=payee, fee_basis_points=fee_basis_points, effective_from=begins, by=by[:120]
            )
    except IntegrityError:
        message = f"Another share takes effect at {begins:%Y-%m-%d %H:%M} UTC already."
        raise ShareInvalid(message) from None


def share_at(subject: str, moment: datetime) -> SkuShare | None:
    """Return the share of a subject that holds at a moment, or None before its first."""
    shares = SkuShare.objects.filter(subject=subject, effective_from__lte=moment).select_related("payee")
    return shares.order_by("-effective_from").first()


def find_share(*, sku: str, price_id: UUID, at: datetime, payer: Account) -> SkuShare | None:
    """Return who is paid for an account's calls at a price, if anybody is.

    An organization that calls its own models pays, and earns nothing: it would be paid with its own money less the
    fee, and with free credit it would be given money.
    """
    meter = Price.objects.values_list("meter", flat=True).get(pk=price_id)
    holding = SkuShare.objects.filter(subject__in=[sku, meter or sku], effective_from__lte=at).select_related("payee")
    newest = sorted(holding, key=lambda one: (one.subject == sku, one.effective_from))
    share = newest[-1] if newest else None
    if share is None and meter.startswith(PLAN_METERS):  # Beyond a plan's quota: who is paid does not depend on the plan.
        own = Price.objects.filter(sku=sku).exclude(meter="").values_list("meter", flat=True).first()
        share = share_at(own, at) if own else None
    return None if share is None or share.payee is None or share.payee_id == payer.pk else share


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """What one SKU at one price brought a provider in one month. Amounts in nanos of `currency`."""

    period: datetime  # The month's first moment.
    sku: str
    unit: str
    price_id: UUID
    currency: str
    fee_basis_points: int
    events: int  # Less refunded ones, as are units.
    units: int
    charge: Nanos  # Before refunds.
    refunds: Nanos  # Zero or less.
    fee: Nanos  # After refunds: charge + refunds = fee + share.
    share: Nanos


def statement(account: Account, *, since: datetime, until: datetime) -> Sequence[StatementLine]:
    """Return what a provider's models brought in the months that begin in [since, until).

    A refund is in the month whose bill it is on: once a month is closed, its lines change no more.
    """
    rows = UsagePosting.objects.filter(payee=account, period__gte=since, period__lt=until)
    keys = ("period", "sku", "unit", "price", "price__currency", "fee_basis_points")
    sums = rows.values_list(*keys).annotate(
        n=Sum("events"),
        u=Sum("units"),
        c=Sum("charge_nanos", filter=Q(kind=UsagePosting.Kind.USAGE)),
        r=Sum("charge_nanos", filter=Q(kind=UsagePosting.Kind.REFUND)),
        f=Sum("fee_nanos"),
        s=Sum("share_nanos"),
    )
    return [
        StatementLine(
            period=period,
            sku=sku,
            unit=unit,
            price_id=price,
            currency=currency,
            fee_basis_points=basis_points,
            events=int(events),
            units=int(units),
            charge=Nanos(int(charge or 0)),
            refunds=Nanos(int(refunds or 0)),
            fee=Nanos(int(fee)),
            share=Nanos(int(share)),
        )
        for period, sku, unit, price, currency, basis_points, events, units, charge, refunds, fee, share in sums.order_by(*keys)
    ]
