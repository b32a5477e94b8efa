"""The money of the whole site by currency and month, for whoever runs it: read, never kept."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from django.db.models import Count, F, QuerySet, Sum

from billing.collecting import OWED
from billing.ledger import ACCOUNT_SUBJECT
from billing.models import (
    Budget,
    CreditNote,
    Dispute,
    Invoice,
    LedgerAccount,
    LedgerEntry,
    PaymentRefund,
    Payout,
    PayoutReversal,
    TopUp,
)
from billing.money import CURRENCIES, NANOS_PER_CENT
from billing.site_hours import first_of, sums_by_month
from billing.sql import as_text

_PROVIDERS: Final = "provider:"


@dataclass(slots=True, kw_only=True)
class MonthMoney:
    """What a month came to in one currency, in nanos."""

    month: datetime  # Its first moment, UTC.
    currency: str
    revenue: int = 0  # Calls, less what was refunded of them.
    shares: int = 0  # The providers' part of it.
    top_ups: int = 0
    refunds: int = 0  # Payments given back.
    disputes: int = 0  # Payments that banks took back and that are not won.
    payouts: int = 0
    reversals: int = 0  # What came back of payouts.

    @property
    def fees(self) -> int:
        """What the site keeps of its calls."""
        return self.revenue - self.shares


@dataclass(slots=True, kw_only=True)
class Standing:
    """How things stand now in one currency, in nanos."""

    currency: str
    credit: int = 0  # What customers have paid or were given, and not spent.
    owed: int = 0  # To providers.
    debts: int = 0  # Of providers.
    payouts_waiting: int = 0
    unpaid: int = 0  # Invoices, those given up too, less the credit notes on them.
    unpaid_count: int = 0
    disputed: int = 0  # Open now.
    disputes_open: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing at all."""
        return not any(getattr(self, one.name) for one in fields(self) if one.name != "currency")


def money_by_month(since: datetime) -> list[MonthMoney]:
    """Return the months since the first moment of one in which anything happened, the newest first, by currency."""
    rows: dict[tuple[datetime, str], MonthMoney] = {}

    def add(name: str, found: QuerySet[Any], *, at: str, currency: str, amount: Any, factor: int = 1) -> None:
        recent = found.filter(**{f"{at}__gte": since}).annotate(month=as_text(at, "2026-11")).order_by()
        for month, code, total in recent.values_list("month", currency).annotate(total=Sum(amount)):
            row = find_row(first_of(month), code)
            setattr(row, name, getattr(row, name) + factor * int(total or 0))

    def find_row(month: datetime, code: str) -> MonthMoney:
        return rows.setdefault((month, code), MonthMoney(month=month, currency=code))

    for (month, code), sums in sums_by_month(since).items():
        if any(sums):
            row = find_row(month, code)
            row.revenue, row.shares = sums.charge_nanos, sums.share_nanos
    cents: dict[str, Any] = {"amount": "amount_cents", "factor": NANOS_PER_CENT}
    add("top_ups", TopUp.objects.filter(status=TopUp.Status.PAID), at="settled_at", currency="currency", **cents)
    refunds = PaymentRefund.objects.exclude(status=PaymentRefund.Status.FAILED)
    add("refunds", refunds, at="created_at", currency="top_up__currency", **cents)
    disputes = Dispute.objects.filter(status__in=[Dispute.Status.OPEN, Dispute.Status.LOST])
    add("disputes", disputes, at="created_at", currency="top_up__currency", **cents)
    add("payouts", Payout.objects.exclude(status=Payout.Status.FAILED), at="created_at", currency="currency", **cents)
    back = PayoutReversal.objects.filter(status=PayoutReversal.Status.DONE)
    add("reversals", back, at="settled_at", currency="payout__currency", **cents)
    return sorted(rows.values(), key=lambda row: (row.month, row.currency), reverse=True)


def standings() -> list[Standing]:
    """Return how things stand now, by currency; those without anything are left out, but one is always there."""
    rows = {currency: Standing(currency=currency) for currency in CURRENCIES}
    budgets = Budget.objects.filter(subject=ACCOUNT_SUBJECT).values_list("account__currency").order_by()
    for currency, left in budgets.annotate(left=Sum(F("limit_nanos") - F("spent_nanos"))):
        rows[currency].credit = int(left or 0)
    _add_providers(rows)
    _add_cents(rows, "payouts_waiting", Payout.objects.filter(status=Payout.Status.WAITING), currency="currency")
    unpaid = Invoice.objects.filter(status__in=OWED)
    _add_cents(rows, "unpaid", unpaid, currency="currency", amount=F("due_cents") - F("paid_cents"), count="unpaid_count")
    lowered = CreditNote.objects.filter(invoice__status__in=OWED, lowers_due=True)
    _add_cents(rows, "unpaid", lowered, currency="invoice__currency", amount=-F("total_cents"))
    disputes = Dispute.objects.filter(status=Dispute.Status.OPEN)
    _add_cents(rows, "disputed", disputes, currency="top_up__currency", count="disputes_open")
    return [row for row in rows.values() if not row.is_empty] or [rows[CURRENCIES[0]]]


def _add_providers(rows: Mapping[str, Standing]) -> None:
    """Add what each provider is owed or owes: one's debt does not pay another."""
    # Their ledger accounts first: within one statement SQLite reads all entries there are and asks of each whose it is.
    providers = dict(LedgerAccount.objects.filter(name__startswith=_PROVIDERS).values_list("pk", "currency"))
    entries = LedgerEntry.objects.filter(ledger_account__in=providers).order_by()
    for provider, total in entries.values_list("ledger_account").annotate(total=Sum("amount_nanos")):
        row = rows[providers[provider]]
        if total > 0:
            row.owed += int(total)
        else:
            row.debts -= int(total)


def _add_cents(
    rows: Mapping[str, Standing], name: str, found: QuerySet[Any], *, currency: str, amount: Any = "amount_cents", count: str = ""
) -> None:
    for code, total, number in found.values_list(currency).order_by().annotate(total=Sum(amount), number=Count("pk")):
        setattr(rows[code], name, getattr(rows[code], name) + int(total or 0) * NANOS_PER_CENT)
        if count:
            setattr(rows[code], count, number)
