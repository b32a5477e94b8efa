"""Check the books: every balance against the facts that it stands for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone

from billing.feed_books import meter_sums
from billing.invoice_books import collected_cents, invoice_sums
from billing.ledger import ACCOUNT_SUBJECT, PAYMENTS
from billing.models import (
    Account,
    BooksCheckpoint,
    BooksRun,
    Budget,
    CreditExpiry,
    CreditGrant,
    CreditPool,
    CreditReversal,
    Dispute,
    Lease,
    LedgerEntry,
    PaymentRefund,
    TopUp,
)
from billing.money import NANOS_PER_CENT
from billing.payout_books import payout_sums
from billing.periods import EPOCH, hour_of
from billing.posting_books import charged_sums, posting_sums
from billing.sums import sums_of, total_of
from billing.usage_books import find_checkpoint, make_checkpoint, usage_sums

# Characters of a difference's words that its row keeps.
_MAX_WORDS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A balance that does not equal the facts behind it."""

    what: str  # "budget spent", "rollup", ...
    of: str  # Which row.
    found: int  # What the row says, in nanos.
    facts: int  # What the facts sum up to.
    key: Any = None  # The row, as the check names it.

    def __str__(self) -> str:
        return f"{self.what} of {self.of} is {self.found}, but its facts sum up to {self.facts}"


def check_books(checkpoint: BooksCheckpoint | None = None) -> list[Difference]:
    """Return every difference between balances and facts; none in good books.

    Reads one snapshot, so it may run while calls are settled.

    Args:
        checkpoint: What the months before stand for; None: all events are summed up, minutes on a hundred million.
    """
    since = checkpoint.until if checkpoint else EPOCH
    with _snapshot():
        return [
            *(difference for what, found, facts in usage_sums(checkpoint) for difference in _compare(what, found, facts)),
            *_check_leases(),
            *_check_grants(),
            *_check_payments(),
            *_check_pools(),
            *(difference for what, found, facts in posting_sums(since=since) for difference in _compare(what, found, facts)),
            *(difference for what, found, facts in payout_sums() for difference in _compare(what, found, facts)),
            *(difference for what, found, facts in invoice_sums() for difference in _compare(what, found, facts)),
            *(difference for what, found, facts in meter_sums() for difference in _compare(what, found, facts)),
            *_check_transactions(),
        ]


def check_this_hour() -> list[Difference] | None:
    """Check the books and keep the result in a `BooksRun`; None where somebody has claimed this hour.

    A check that dies leaves its row unfinished, and the next hour has the next. Once a month, and while there are
    differences, it looks at everything; else at what was since the month began.
    """
    run, is_ours = BooksRun.objects.get_or_create(hour=hour_of(timezone.now()), defaults={"started_at": timezone.now()})
    if not is_ours:
        return None
    checkpoint = find_checkpoint(run.started_at)
    differences = check_books(checkpoint)
    if checkpoint is None and not differences:
        make_checkpoint(run.started_at)
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
            yield Difference(what=what, of=str(key), found=found.get(key, 0), facts=facts.get(key, 0), key=key)


def _check_leases() -> Iterator[Difference]:
    leased = sums_of(Lease.objects.values_list("budget_id").annotate(total=Sum("amount_nanos")))
    yield from _compare("budget leased", dict(Budget.objects.values_list("pk", "leased_nanos")), leased)


def _check_grants() -> Iterator[Difference]:
    grants = sums_of(CreditGrant.objects.values_list("account_id").annotate(total=Sum("amount_nanos")))
    limits = dict(Budget.objects.filter(subject=ACCOUNT_SUBJECT).values_list("account_id", "limit_nanos"))
    reversed_ = sums_of(CreditReversal.objects.values_list("account_id").annotate(total=Sum("amount_nanos")))
    expired = sums_of(CreditExpiry.objects.values_list("account_id").annotate(total=Sum("amount_nanos")))
    accounts = grants.keys() | reversed_.keys()
    grants = {account: grants.get(account, 0) - reversed_.get(account, 0) - expired.get(account, 0) for account in accounts}
    lines = {account.pk: account.usable_line_nanos for account in Account.objects.exclude(credit_line_nanos=0)}
    with_lines = {account: grants.get(account, 0) + lines.get(account, 0) for account in grants.keys() | lines.keys()}
    yield from _compare("account limit", limits, with_lines)
    entries = LedgerEntry.objects.filter(ledger_account__account__isnull=False)
    credit = sums_of(entries.values_list("ledger_account__account").annotate(total=Sum("amount_nanos")))
    charged = charged_sums()
    expected = {account: grants.get(account, 0) - charged.get(account, 0) for account in grants.keys() | charged.keys()}
    yield from _compare("ledger credit", credit, expected)


def _check_payments() -> Iterator[Difference]:
    """What came in by the provider, less what went back, against the ledger's account of it; and each paid top-up against its grant."""
    paid = TopUp.objects.filter(status=TopUp.Status.PAID)
    refunds = PaymentRefund.objects.exclude(status=PaymentRefund.Status.FAILED)
    disputes = Dispute.objects.filter(status__in=[Dispute.Status.OPEN, Dispute.Status.LOST])
    cents = total_of(paid, "amount_cents") - total_of(refunds, "amount_cents") - total_of(disputes, "amount_cents") + collected_cents()
    held = total_of(LedgerEntry.objects.filter(ledger_account__name__startswith=PAYMENTS), "amount_nanos")
    yield from _compare("payments", {"ledger": -held}, {"ledger": cents * NANOS_PER_CENT})
    granted = CreditGrant.objects.filter(kind=CreditGrant.Kind.TOP_UP, reference__startswith="top_up:").values_list(
        "reference", "amount_nanos"
    )
    yield from _compare(
        "top-up",
        {reference.removeprefix("top_up:"): amount for reference, amount in granted},
        {str(pk): amount * NANOS_PER_CENT for pk, amount in paid.values_list("pk", "amount_cents")},
    )


def _check_pools() -> Iterator[Difference]:
    given = total_of(CreditGrant.objects.filter(kind=CreditGrant.Kind.FREE), "amount_nanos")
    drawn = total_of(CreditPool.objects.all(), "granted_nanos")
    yield from _compare("credit pools", {"free": drawn}, {"free": given})


def _check_transactions() -> Iterator[Difference]:
    totals = LedgerEntry.objects.values_list("transaction_id").annotate(total=Sum("amount_nanos")).exclude(total=0)
    yield from _compare("ledger transaction", sums_of(totals), {})
