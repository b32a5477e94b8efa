"""Check the books: every balance against the facts that it stands for."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import QuerySet, Sum
from django.utils import timezone

from billing.invoice_books import collected_cents, invoice_sums
from billing.ledger import ACCOUNT_SUBJECT, PAYMENTS
from billing.models import (
    Account,
    BooksRun,
    Budget,
    CreditGrant,
    CreditPool,
    CreditReversal,
    Dispute,
    InvoiceLine,
    Lease,
    LedgerEntry,
    PaymentRefund,
    TopUp,
    UsageEvent,
    UsageRefund,
    UsageRollup,
)
from billing.money import NANOS_PER_CENT
from billing.payers import parse_payers
from billing.payout_books import payout_sums
from billing.periods import hour_of, month_of
from billing.posting_books import charged_sums, posting_sums

# Characters of a difference's words that its row keeps.
_MAX_WORDS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A balance that does not equal the facts behind it."""

    what: str  # "budget spent", "rollup", ...
    of: str  # Which row.
    found: int  # What the row says, in nanos.
    facts: int  # What the facts sum up to.

    def __str__(self) -> str:
        return f"{self.what} of {self.of} is {self.found}, but its facts sum up to {self.facts}"


def check_books() -> list[Difference]:
    """Return every difference between balances and facts; none in good books.

    Reads one snapshot, so it may run while calls are settled. It sums up all events: minutes on
    a hundred million.
    """
    with _snapshot():
        return [
            *_check_budgets(),
            *_check_leases(),
            *_check_rollups(),
            *_check_invoices(),
            *_check_grants(),
            *_check_payments(),
            *_check_pools(),
            *(difference for what, found, facts in posting_sums() for difference in _compare(what, found, facts)),
            *(difference for what, found, facts in payout_sums() for difference in _compare(what, found, facts)),
            *(difference for what, found, facts in invoice_sums() for difference in _compare(what, found, facts)),
            *_check_transactions(),
        ]


def check_this_hour() -> list[Difference] | None:
    """Check the books and keep the result in a `BooksRun`; None where somebody has claimed this hour.

    A check that dies leaves its row unfinished, and the next hour has the next.
    """
    run, is_ours = BooksRun.objects.get_or_create(hour=hour_of(timezone.now()), defaults={"started_at": timezone.now()})
    if not is_ours:
        return None
    differences = check_books()
    run.finished_at = timezone.now()
    run.differences = len(differences)
    run.difference_nanos = sum(abs(difference.found - difference.facts) for difference in differences)
    run.first = str(differences[0])[:_MAX_WORDS] if differences else ""
    run.save(update_fields=["finished_at", "differences", "difference_nanos", "first"])
    return differences


def find_last_run() -> BooksRun | None:
    """Return the last check that came to its end, or None while none has."""
    return BooksRun.objects.filter(finished_at__isnull=False).order_by("-hour").first()


@contextmanager
def _snapshot() -> Iterator[None]:
    """See the database as of one moment, without stopping its writers."""
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "postgresql":
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SET LOCAL statement_timeout = 0")  # The sums take as long as they take.
            yield
    else:
        # Not atomic(): that would BEGIN IMMEDIATE and keep every writer waiting.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")


def _compare(what: str, found: dict[Any, int], facts: dict[Any, int]) -> Iterator[Difference]:
    for key in sorted(found.keys() | facts.keys(), key=str):
        if found.get(key, 0) != facts.get(key, 0):
            yield Difference(what=what, of=str(key), found=found.get(key, 0), facts=facts.get(key, 0))


def _sums(rows: Iterable[tuple[Any, ...]]) -> dict[Any, int]:
    """Sum rows of (key..., amount) by key; PostgreSQL's sums are numeric, so they are made int."""
    sums: dict[Any, int] = defaultdict(int)
    for *key, amount in rows:
        sums[key[0] if len(key) == 1 else tuple(key)] += int(amount or 0)
    return sums


def _check_budgets() -> Iterator[Difference]:
    facts: dict[Any, int] = defaultdict(int)
    charged = UsageEvent.objects.exclude(budgets="").values_list("budgets").annotate(nanos=Sum("charge_nanos"), used=Sum("units"))
    refunded = UsageRefund.objects.exclude(event__budgets="").values_list("event__budgets")
    refunded = refunded.annotate(nanos=Sum("charge_nanos"), used=Sum("event__units"))
    for sign, rows in ((1, charged), (-1, refunded)):
        for budgets, nanos, used in rows:
            for budget_id, in_units in parse_payers(budgets):
                facts[budget_id] += sign * int(used if in_units else nanos)
    yield from _compare("budget spent", dict(Budget.objects.values_list("pk", "spent_nanos")), facts)


def _check_leases() -> Iterator[Difference]:
    leased = _sums(Lease.objects.values_list("budget_id").annotate(total=Sum("amount_nanos")))
    yield from _compare("budget leased", dict(Budget.objects.values_list("pk", "leased_nanos")), leased)


def _check_rollups() -> Iterator[Difference]:
    by = ("account_id", "sku", "unit", "source", "livemode", "price_id")
    events = UsageEvent.objects.values_list(*by).order_by()
    rollups = UsageRollup.objects.values_list(*by).order_by()
    for column in ("units", "charge_nanos"):
        facts = _sums(events.annotate(total=Sum(column)))
        yield from _compare(f"rollup {column}", _sums(rollups.annotate(total=Sum(column))), facts)
    refunds = UsageRefund.objects.values_list(*(f"event__{name}" for name in by)).order_by().annotate(total=Sum("charge_nanos"))
    yield from _compare("rollup refunded", _sums(rollups.annotate(total=Sum("refunded_nanos"))), _sums(refunds))


def _check_invoices() -> Iterator[Difference]:
    """Closed months: lines against events and refunds. Catches an event that came after the close."""
    found = _sums(InvoiceLine.objects.values_list("invoice__account", "invoice__starts_at", "sku", "price", "charge_nanos"))
    closed = {key[:2] for key in found}
    facts: dict[Any, int] = defaultdict(int)
    for account, starts_at in closed:
        period = (starts_at, month_of(starts_at)[1])
        events = UsageEvent.objects.filter(account=account, price__isnull=False, occurred_at__gte=period[0], occurred_at__lt=period[1])
        refunds = UsageRefund.objects.filter(account=account, event__price__isnull=False, booked_at__gte=period[0], booked_at__lt=period[1])
        for sku, price, total in events.values_list("sku", "price").annotate(total=Sum("charge_nanos")):
            facts[account, starts_at, sku, price] += int(total)
        for sku, price, total in refunds.values_list("event__sku", "event__price").annotate(total=Sum("charge_nanos")):
            facts[account, starts_at, sku, price] -= int(total)
    yield from _compare("invoice line", found, facts)


def _check_grants() -> Iterator[Difference]:
    grants = _sums(CreditGrant.objects.values_list("account_id").annotate(total=Sum("amount_nanos")))
    limits = dict(Budget.objects.filter(subject=ACCOUNT_SUBJECT).values_list("account_id", "limit_nanos"))
    reversed_ = _sums(CreditReversal.objects.values_list("account_id").annotate(total=Sum("amount_nanos")))
    grants = {account: grants.get(account, 0) - reversed_.get(account, 0) for account in grants.keys() | reversed_.keys()}
    lines = {account.pk: account.usable_line_nanos for account in Account.objects.exclude(credit_line_nanos=0)}
    with_lines = {account: grants.get(account, 0) + lines.get(account, 0) for account in grants.keys() | lines.keys()}
    yield from _compare("account limit", limits, with_lines)
    entries = LedgerEntry.objects.filter(ledger_account__account__isnull=False)
    credit = _sums(entries.values_list("ledger_account__account").annotate(total=Sum("amount_nanos")))
    charged = charged_sums()
    expected = {account: grants.get(account, 0) - charged.get(account, 0) for account in grants.keys() | charged.keys()}
    yield from _compare("ledger credit", credit, expected)


def _check_payments() -> Iterator[Difference]:
    """What came in by the provider, less what went back, against the ledger's account of it; and each paid top-up against its grant."""
    paid = TopUp.objects.filter(status=TopUp.Status.PAID)
    refunds = PaymentRefund.objects.exclude(status=PaymentRefund.Status.FAILED)
    disputes = Dispute.objects.filter(status__in=[Dispute.Status.OPEN, Dispute.Status.LOST])
    cents = _total(paid) - _total(refunds) - _total(disputes) + collected_cents()
    held = LedgerEntry.objects.filter(ledger_account__name__startswith=PAYMENTS).aggregate(total=Sum("amount_nanos"))["total"]
    yield from _compare("payments", {"ledger": -int(held or 0)}, {"ledger": cents * NANOS_PER_CENT})
    granted = CreditGrant.objects.filter(kind=CreditGrant.Kind.TOP_UP, reference__startswith="top_up:").values_list(
        "reference", "amount_nanos"
    )
    yield from _compare(
        "top-up",
        {reference.removeprefix("top_up:"): amount for reference, amount in granted},
        {str(pk): amount * NANOS_PER_CENT for pk, amount in paid.values_list("pk", "amount_cents")},
    )


def _total(rows: QuerySet[Any]) -> int:
    return int(rows.aggregate(total=Sum("amount_cents"))["total"] or 0)


def _check_pools() -> Iterator[Difference]:
    given = CreditGrant.objects.filter(kind=CreditGrant.Kind.FREE).aggregate(total=Sum("amount_nanos"))["total"]
    drawn = CreditPool.objects.aggregate(total=Sum("granted_nanos"))["total"]
    yield from _compare("credit pools", {"free": int(drawn or 0)}, {"free": int(given or 0)})


def _check_transactions() -> Iterator[Difference]:
    totals = LedgerEntry.objects.values_list("transaction_id").annotate(total=Sum("amount_nanos")).exclude(total=0)
    yield from _compare("ledger transaction", _sums(totals), {})
