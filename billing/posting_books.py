"""The books of what was posted of usage: calls = postings = ledger = invoices."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from django.db.models import Count, Exists, OuterRef, QuerySet, Sum, Value
from django.db.models.functions import Concat, TruncHour

from billing.ledger import REVENUE, credit_account_name, fund_name, provider_account_name
from billing.models import Account, Invoice, InvoiceLine, LedgerEntry, LedgerTransaction, UsageEvent, UsagePosting, UsageRollup
from billing.periods import EPOCH
from billing.posting import posts_from

# What was found, and what the facts say, in nanos by row.
Sums = dict[Any, int]
_POSTED: Final = ("usage", "usage_refund", "usage_rebate")


def posting_sums(*, since: datetime = EPOCH) -> Iterator[tuple[str, Sums, Sums]]:
    """Yield what is compared: postings against calls and refunds, the ledger against postings, invoices against postings.

    Args:
        since: The first moment of a month; what is before it is left out.
    """
    yield "postings", *_calls(since=since)
    yield "ledger usage", *_ledger(since=since)
    yield "invoiced postings", *_invoices(since=since)


def charged_sums() -> Sums:
    """Return what left each account's credit for usage: by postings, or where its months were closed before there were any, by invoice."""
    sums: Sums = defaultdict(int)
    posted = UsagePosting.objects.order_by().values_list("account").annotate(total=Sum("charge_nanos"))
    lines = InvoiceLine.objects.filter(_charged_whole("invoice__number")).order_by()
    for account, total in (*posted, *lines.values_list("invoice__account").annotate(total=Sum("charge_nanos"))):
        sums[account] += int(total)
    return sums


def _charged_whole(number: str) -> Exists:
    """Return the condition of invoices that were charged in one sum when they were closed."""
    reference = Concat(Value("invoice:"), OuterRef(number))
    return Exists(LedgerTransaction.objects.filter(kind="invoice", reference=reference))


def _calls(*, since: datetime) -> tuple[Sums, Sums]:
    """Sum what was posted of calls and refunds, and these themselves, by account, SKU, price, kind and hour, where they are not the same."""
    found: Sums = {}
    facts: Sums = {}
    for account in Account.objects.filter(Exists(UsageRollup.objects.filter(account=OuterRef("pk"), hour__gte=since))).iterator():
        begins = posts_from(account)
        events = UsageEvent.objects.filter(account=account, price__isnull=False, occurred_at__gte=since).order_by()
        rows = UsagePosting.objects.filter(account=account, hour__gte=since).order_by()
        kinds = (
            ("usage", events.filter(occurred_at__gte=begins), "charge_nanos", 1),
            ("refund", events.filter(refund__booked_at__gte=begins), "refund__charge_nanos", -1),
        )
        for kind, calls, column, sign in kinds:
            posted = rows.filter(kind=kind)
            totals = _counted(posted.values_list("sku", "price").annotate(n=Sum("events"), c=Sum("charge_nanos")))
            called = _counted(calls.values_list("sku", "price").annotate(n=Count("pk"), c=Sum(column)), sign=sign)
            for sku, price in (key for key in totals.keys() | called.keys() if totals.get(key) != called.get(key)):
                of = {"sku": sku, "price": price}
                for hour, one, other in _differing_hours(posted.filter(**of), calls.filter(**of), column, sign=sign):
                    found[account.pk, sku, price, kind, hour] = one
                    facts[account.pk, sku, price, kind, hour] = other
    return found, facts


def _differing_hours(posted: QuerySet[Any], calls: QuerySet[Any], column: str, *, sign: int) -> Iterator[tuple[datetime, int, int]]:
    """Yield the hours of one SKU and price whose postings are not what their calls come to.

    Calls that wait to be posted are no difference: where fewer were posted than there are, the others come with a later run.
    """
    by_hour = calls.annotate(at=TruncHour("occurred_at", tzinfo=UTC)).values_list("at")
    there = _counted(by_hour.annotate(n=Count("pk"), c=Sum(column)), sign=sign)
    for key, (count, charge) in _counted(posted.values_list("hour").annotate(n=Sum("events"), c=Sum("charge_nanos"))).items():
        events, came_to = there.get(key, (0, 0))
        if abs(count) >= abs(events) and charge != came_to:
            yield key[0], charge, came_to


def _counted(rows: Iterable[tuple[Any, ...]], *, sign: int = 1) -> dict[Any, tuple[int, int]]:
    return {tuple(key): (sign * int(n), sign * int(charge)) for *key, n, charge in rows}


def _ledger(*, since: datetime) -> tuple[Sums, Sums]:
    """Sum the ledger's entries of usage by ledger account, and the postings that they are of."""
    facts: Sums = defaultdict(int)
    entries = LedgerEntry.objects.filter(transaction__kind__in=_POSTED, transaction__created_at__gte=since).order_by()
    found: Sums = {name: int(total) for name, total in entries.values_list("ledger_account__name").annotate(total=Sum("amount_nanos"))}
    rows = UsagePosting.objects.filter(transaction__created_at__gte=since).order_by()
    accounts = Account.objects.in_bulk()
    sums = rows.values_list("account", "payee").annotate(Sum("charge_nanos"), Sum("fee_nanos"), Sum("share_nanos"))
    for account, payee, charge, fee, share in sums:
        payer = accounts[account]
        facts[credit_account_name(payer)] -= int(charge)
        facts[fund_name(REVENUE, payer.currency)] += int(fee)
        if payee is not None:
            facts[provider_account_name(accounts[payee], currency=payer.currency)] += int(share)
    return found, facts


def _invoices(*, since: datetime) -> tuple[Sums, Sums]:
    """Sum the lines of closed months by account, SKU and price, and the postings that are on them."""
    invoices = Invoice.objects.filter(starts_at__gte=since).exclude(_charged_whole("number"))
    columns = ("invoice__account", "invoice__starts_at", "sku", "price", "charge_nanos")
    lines = InvoiceLine.objects.filter(invoice__in=invoices).values_list(*columns)
    found: Sums = defaultdict(int)
    for *key, charge in lines:  # Late usage has lines of its own, of the same SKU and price.
        found[tuple(key)] += int(charge)
    is_closed = Exists(invoices.filter(account=OuterRef("account"), starts_at=OuterRef("period")))
    rows = UsagePosting.objects.filter(is_closed).order_by().values_list("account", "period", "sku", "price")
    return found, {tuple(key): int(total) for *key, total in rows.annotate(total=Sum("charge_nanos"))}
