"""A provider's month: what its models brought, line by line, and what was sent meanwhile."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Sum

from billing.models import Account, Payout, PayoutReversal, UsagePosting
from billing.money import NANOS_PER_CENT
from billing.periods import month_of
from billing.shares import StatementLine, statement


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthSum:
    """What a month brought in one currency, in nanos."""

    month: datetime  # Its first moment, UTC.
    currency: str
    share: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrencySum:
    """A statement's totals in one currency, in nanos."""

    currency: str
    charge: int
    refunds: int
    fee: int
    share: int
    sent: int  # Payouts that were made in the month, less those refused.
    came_back: int  # Of any payouts, in the month.


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One month of a provider's."""

    month: datetime
    ends_at: datetime
    lines: Sequence[StatementLine]
    totals: Sequence[CurrencySum]


def months_of(account: Account) -> list[MonthSum]:
    """Return the months in which a provider's models were called, the newest first."""
    rows = UsagePosting.objects.filter(payee=account).order_by().values_list("period", "price__currency")
    sums = [MonthSum(month=period, currency=currency, share=int(share)) for period, currency, share in rows.annotate(Sum("share_nanos"))]
    return sorted(sums, key=lambda one: (one.month, one.currency), reverse=True)


def statement_of(account: Account, *, month: datetime) -> Statement:
    """Return a provider's month; `month` is any moment of it."""
    starts_at, ends_at = month_of(month)
    lines = statement(account, since=starts_at, until=ends_at)
    span = (starts_at, ends_at)
    payouts = Payout.objects.filter(account=account, created_at__gte=span[0], created_at__lt=span[1]).exclude(status=Payout.Status.FAILED)
    sent = _by_currency(payouts.values_list("currency").order_by().annotate(Sum("amount_cents")))
    reversals = PayoutReversal.objects.filter(payout__account=account, settled_at__gte=span[0], settled_at__lt=span[1])
    done = reversals.filter(status=PayoutReversal.Status.DONE)
    came_back = _by_currency(done.values_list("payout__currency").order_by().annotate(Sum("amount_cents")))
    currencies = sorted({line.currency for line in lines} | sent.keys() | came_back.keys())
    totals = [
        CurrencySum(
            currency=currency,
            charge=sum(line.charge for line in lines if line.currency == currency),
            refunds=sum(line.refunds for line in lines if line.currency == currency),
            fee=sum(line.fee for line in lines if line.currency == currency),
            share=sum(line.share for line in lines if line.currency == currency),
            sent=sent.get(currency, 0),
            came_back=came_back.get(currency, 0),
        )
        for currency in currencies
    ]
    return Statement(month=starts_at, ends_at=ends_at, lines=lines, totals=totals)


def _by_currency(rows: Iterable[tuple[str, int]]) -> dict[str, int]:
    return {currency: int(cents or 0) * NANOS_PER_CENT for currency, cents in rows}
