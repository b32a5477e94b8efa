"""What a provider can be sent: what it was credited and not yet paid, less what is too young, in reserve, disputed or not paid for.

All from the ledger. A provider's ledger account holds its shares, what refunds took back of them, what was sent
(negative) and what came back of that. It may be below zero: that is carried, and taken from what comes next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, Sum

from billing.collecting import OWED, owed_cents
from billing.ledger import balance, provider_account_name
from billing.models import Account, Dispute, Invoice, LedgerAccount, LedgerEntry, UsagePosting
from billing.money import NANOS_PER_CENT
from billing.periods import hour_of

# The kinds of postings that move money to and from a provider. All others are what it earned, less what was taken back.
SENT: Final = "payout"
NOT_SENT: Final = "payout_failed"
CAME_BACK: Final = "payout_reversal"
MOVES: Final = (SENT, NOT_SENT, CAME_BACK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payable:
    """A provider's money in one currency, in nanos."""

    currency: str
    balance: int  # What it is owed; below zero, what it owes.
    earned: int  # All shares, less what was taken back.
    paid: int  # Sent, less what came back.
    on_hold: int  # Younger than PAYOUT_HOLD_DAYS: a refund may yet take it back.
    disputed: int  # Of calls that were paid with money that is disputed now.
    unpaid: int  # Of calls on invoices that their customers have not paid.
    reserve: int  # PAYOUT_RESERVE_PERCENT of what the last PAYOUT_RESERVE_DAYS brought and is not on hold.

    @property
    def nanos(self) -> int:
        """What may be sent."""
        return max(0, self.balance - self.on_hold - self.disputed - self.unpaid - self.reserve)

    @property
    def cents(self) -> int:
        """The same, in whole cents: the rest stays for the next time."""
        return self.nanos // NANOS_PER_CENT


def ledger_names(account: Account) -> Mapping[str, str]:
    """Return the names of a provider's ledger accounts by currency."""
    name = provider_account_name(account)
    rows = LedgerAccount.objects.filter(Q(name=name) | Q(name__startswith=f"{name}:"))
    return {row.currency: row.name for row in rows.order_by("name")}


def payable_of(account: Account, *, now: datetime) -> list[Payable]:
    """Return what a provider can be sent, by currency; none where it never earned anything."""
    return [_payable(account, currency, name, now=now) for currency, name in ledger_names(account).items()]


def find_payable(account: Account, *, currency: str, now: datetime) -> Payable | None:
    """Return what a provider can be sent in one currency, if it earned anything in it."""
    name = ledger_names(account).get(currency)
    return _payable(account, currency, name, now=now) if name else None


def _payable(account: Account, currency: str, name: str, *, now: datetime) -> Payable:
    entries = LedgerEntry.objects.filter(ledger_account__name=name)
    moved = Q(transaction__kind__in=MOVES)
    young, recent = now - timedelta(days=settings.PAYOUT_HOLD_DAYS), now - timedelta(days=settings.PAYOUT_RESERVE_DAYS)
    # What was taken back counts at once, even of old shares: young ones are never sent instead.
    shares = ~moved & Q(amount_nanos__gt=0)
    sums = entries.aggregate(
        balance=Sum("amount_nanos"),
        moved=Sum("amount_nanos", filter=moved),
        young=Sum("amount_nanos", filter=shares & Q(transaction__created_at__gt=young)),
        recent=Sum("amount_nanos", filter=shares & Q(transaction__created_at__gt=recent, transaction__created_at__lte=young)),
    )
    balance, sent = int(sums["balance"] or 0), -int(sums["moved"] or 0)
    return Payable(
        currency=currency,
        balance=balance,
        earned=balance + sent,
        paid=sent,
        on_hold=min(max(0, balance), int(sums["young"] or 0)),
        disputed=_disputed(account, currency, until=young),
        unpaid=_unpaid(account, currency, until=young),
        reserve=int(sums["recent"] or 0) * settings.PAYOUT_RESERVE_PERCENT // 100,
    )


def _disputed(account: Account, currency: str, *, until: datetime) -> int:
    """Return the shares that open disputes concern: of calls made since the disputed payment, up to its amount.

    Of each customer, at most what it paid with disputed money. Shares on hold are left out: they are kept back already.
    """
    amounts: dict[UUID, int] = {}
    since: dict[UUID, datetime] = {}
    concerned = UsagePosting.objects.filter(payee=account, account=OuterRef("top_up__account"))
    disputes = Dispute.objects.filter(Exists(concerned), status=Dispute.Status.OPEN, top_up__currency=currency)
    for dispute in disputes.select_related("top_up"):
        customer, paid_at = dispute.top_up.account_id, dispute.top_up.settled_at or dispute.top_up.created_at
        amounts[customer] = amounts.get(customer, 0) + dispute.amount_cents * NANOS_PER_CENT
        since[customer] = min(paid_at, since.get(customer, paid_at))
    total = 0
    for customer, amount in amounts.items():
        rows = UsagePosting.objects.filter(
            payee=account, account=customer, hour__gte=hour_of(since[customer]), transaction__created_at__lte=until
        )
        shares = int(rows.aggregate(total=Sum("share_nanos"))["total"] or 0)
        total += min(amount, max(0, shares))
    return total


def _unpaid(account: Account, currency: str, *, until: datetime) -> int:
    """Return the shares of calls that nobody has paid for yet, of each invoice or customer up to what it owes; without those on hold."""
    rows = UsagePosting.objects.filter(payee=account, transaction__created_at__lte=until)
    concerned = rows.filter(account=OuterRef("account"), period=OuterRef("starts_at"))
    invoices = Invoice.objects.filter(Exists(concerned), status__in=OWED, currency=currency)
    total = 0
    for invoice in invoices:
        shares = rows.filter(account=invoice.account_id, period=invoice.starts_at).aggregate(total=Sum("share_nanos"))["total"]
        total += min((owed_cents(invoice) - invoice.paid_cents) * NANOS_PER_CENT, max(0, int(shares or 0)))
    # Of months that are not over: what their callers owe by now, beyond all credit, and no invoice asks for yet.
    afterwards = Q(credit_line_nanos__gt=0) | Q(line_ended_at__isnull=False)
    for customer in Account.objects.filter(afterwards, Exists(rows.filter(account=OuterRef("pk"))), currency=currency):
        billed = Invoice.objects.filter(account=customer)
        asked = sum(owed_cents(invoice) for invoice in billed.filter(status__in=OWED)) * NANOS_PER_CENT
        shares = rows.filter(account=customer).exclude(period__in=billed.values("starts_at")).aggregate(total=Sum("share_nanos"))["total"]
        now = balance(customer)
        debt = now.spent - now.granted - asked
        total += min(max(0, debt), max(0, int(shares or 0)))
    return total
