"""The books of calls: budgets, hourly sums and invoices against the calls themselves, all of them or those since a checkpoint.

A checkpoint stands for the months before it, which a full check found without a difference: what every budget had spent
until then is kept, so that the next check sums up the calls of this month alone.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from django.db.models import Exists, OuterRef, QuerySet, Sum

from billing.late_usage import late_sums, on_own_lines
from billing.models import Account, BooksCheckpoint, Budget, Invoice, InvoiceLine, UsageEvent, UsageRefund, UsageRollup
from billing.payers import parse_payers
from billing.periods import EPOCH, month_of
from billing.sums import sums_of

# What was found, and what the facts say, in nanos by row.
Sums = dict[Any, int]
# A month's calls have settled, and its invoices are closed, so long after its end.
_SETTLES: Final = timedelta(hours=2)
# A refund this old is committed: no transaction is open so long.
_COMMITS: Final = timedelta(minutes=10)
_ROLLED: Final = ("account_id", "sku", "unit", "source", "livemode", "price_id")


class _Scope(NamedTuple):
    """What is summed up at once: everything, or one account's rows since a checkpoint."""

    events: QuerySet[UsageEvent]
    rollups: QuerySet[UsageRollup]
    refunds: QuerySet[UsageRefund]  # Made since.
    refunds_of_events: QuerySet[UsageRefund]


def usage_sums(checkpoint: BooksCheckpoint | None) -> Iterator[tuple[str, Sums, Sums]]:
    """Yield what is compared of budgets, hourly sums and invoices."""
    spent: Sums = defaultdict(int)
    if checkpoint is not None:
        spent.update({int(budget): int(nanos) for budget, nanos in checkpoint.spent.items()})
    found = {name: Sums() for name in ("units", "charge_nanos", "refunded")}
    facts = {name: Sums() for name in found}
    for scope in _scopes(checkpoint):
        _add_spent(spent, scope.events, scope.refunds)
        for column in ("units", "charge_nanos"):
            found[column] |= sums_of(scope.rollups.order_by().values_list(*_ROLLED).annotate(total=Sum(column)))
            facts[column] |= sums_of(scope.events.order_by().values_list(*_ROLLED).annotate(total=Sum(column)))
        found["refunded"] |= sums_of(scope.rollups.order_by().values_list(*_ROLLED).annotate(total=Sum("refunded_nanos")))
        refunds = scope.refunds_of_events.order_by().values_list(*(f"event__{name}" for name in _ROLLED))
        facts["refunded"] |= sums_of(refunds.annotate(total=Sum("charge_nanos")))
    budgets = dict(Budget.objects.values_list("pk", "spent_nanos"))
    if checkpoint is not None:
        _look_again(budgets, spent)
    yield "budget spent", budgets, spent
    for name, sums in found.items():
        yield f"rollup {name}", sums, facts[name]
    yield "invoice line", *_invoices(checkpoint)


def spent_before(until: datetime, *, refunds_until: datetime) -> Sums:
    """Return what each budget had spent on calls before a moment, less refunds made before another."""
    spent: Sums = defaultdict(int)
    _add_spent(spent, UsageEvent.objects.filter(occurred_at__lt=until), UsageRefund.objects.filter(created_at__lt=refunds_until))
    return {budget: nanos for budget, nanos in spent.items() if nanos}


def find_checkpoint(now: datetime) -> BooksCheckpoint | None:
    """Return the checkpoint at the start of this month, if there is one yet."""
    return BooksCheckpoint.objects.filter(until=month_of(now)[0]).first()


def make_checkpoint(now: datetime) -> BooksCheckpoint | None:
    """Make this month's checkpoint, after a full check without a difference; None while the month before is not closed for all."""
    until = month_of(now)[0]
    before = month_of(until - timedelta(days=1))[0]
    used = UsageRollup.objects.filter(account=OuterRef("pk"), price__isnull=False, hour__gte=before, hour__lt=until)
    invoices = Invoice.objects.filter(account=OuterRef("pk"), starts_at=before)
    if now < until + _SETTLES or Account.objects.filter(Exists(used), ~Exists(invoices)).exists():
        return None
    refunds_until = now - _COMMITS
    spent = {str(budget): nanos for budget, nanos in spent_before(until, refunds_until=refunds_until).items()}
    facts = {"refunds_until": refunds_until, "made_at": now, "spent": spent}
    return BooksCheckpoint.objects.get_or_create(until=until, defaults=facts)[0]


def _scopes(checkpoint: BooksCheckpoint | None) -> Iterator[_Scope]:
    if checkpoint is None:
        refunds = UsageRefund.objects.all()
        yield _Scope(UsageEvent.objects.all(), UsageRollup.objects.all(), refunds, refunds)
        return
    # By account, since that is what the indexes begin with.
    events = UsageEvent.objects.filter(occurred_at__gte=checkpoint.until)
    rollups = UsageRollup.objects.filter(hour__gte=checkpoint.until)
    refunds = UsageRefund.objects.filter(created_at__gte=checkpoint.refunds_until)
    mine = {"account": OuterRef("pk")}
    concerned = Account.objects.filter(Exists(events.filter(**mine)) | Exists(rollups.filter(**mine)) | Exists(refunds.filter(**mine)))
    for account in concerned.iterator():
        of_events = UsageRefund.objects.filter(event__account=account, event__occurred_at__gte=checkpoint.until)
        yield _Scope(events.filter(account=account), rollups.filter(account=account), refunds.filter(account=account), of_events)


def _look_again(budgets: Sums, spent: Sums) -> None:
    """Sum up all calls of the accounts whose budgets seem to differ: some may have come late, of months that the checkpoint stands for."""
    differing = {budget for budget in budgets.keys() | spent.keys() if budgets.get(budget, 0) != spent.get(budget, 0)}
    for account in Account.objects.filter(budgets__in=differing).distinct().iterator():
        again: Sums = {}
        _add_spent(again, UsageEvent.objects.filter(account=account), UsageRefund.objects.filter(account=account))
        for budget in account.budgets.values_list("pk", flat=True):
            spent[budget] = again.get(budget, 0)


def _add_spent(spent: Sums, events: QuerySet[UsageEvent], refunds: QuerySet[UsageRefund]) -> None:
    charged = events.exclude(budgets="").order_by().values_list("budgets").annotate(nanos=Sum("charge_nanos"), used=Sum("units"))
    refunded = refunds.exclude(event__budgets="").order_by().values_list("event__budgets")
    refunded = refunded.annotate(nanos=Sum("charge_nanos"), used=Sum("event__units"))
    for sign, rows in ((1, charged), (-1, refunded)):
        for budgets, nanos, used in rows:
            for budget_id, in_units in parse_payers(budgets):
                spent[budget_id] = spent.get(budget_id, 0) + sign * int(used if in_units else nanos)


def _invoices(checkpoint: BooksCheckpoint | None) -> tuple[Sums, Sums]:
    """Closed months: lines against events and refunds. What came after the close is no difference: it is on the next, or will be."""
    lines = InvoiceLine.objects.filter(invoice__starts_at__gte=checkpoint.until if checkpoint else EPOCH)
    found = sums_of(lines.values_list("invoice__account", "invoice__starts_at", "sku", "price", "late_from", "charge_nanos"))
    by_month: dict[Any, Sums] = defaultdict(dict)
    for key, charge in found.items():
        by_month[key[:2]][key] = charge
    facts: Sums = {}
    for invoice in Invoice.objects.filter(lines__in=lines).distinct().iterator():
        period = {"occurred_at__gte": invoice.starts_at, "occurred_at__lt": invoice.ends_at}
        came_to = _facts_of(invoice, UsageEvent.objects.filter(account=invoice.account_id, price__isnull=False, **period))
        on_lines = {key: charge for key, charge in by_month[invoice.account_id, invoice.starts_at].items() if charge}
        if came_to != on_lines:  # Leave out what came after the seal, which takes longer.
            came_to = _facts_of(invoice, UsageEvent.objects.filter(on_own_lines(invoice)))
        facts |= came_to
    return found, facts


def _facts_of(invoice: Invoice, own: QuerySet[UsageEvent]) -> Sums:
    """Sum what an invoice's lines stand for: its own calls, less refunds booked in its month, and late calls of months before."""
    facts: Sums = defaultdict(int)
    name = (invoice.account_id, invoice.starts_at)
    booked = {"booked_at__gte": invoice.starts_at, "booked_at__lt": invoice.ends_at}
    refunds = UsageRefund.objects.filter(account=invoice.account_id, event__price__isnull=False, **booked)
    for sku, price, total in own.values_list("sku", "price").annotate(total=Sum("charge_nanos")):
        facts[*name, sku, price, None] += int(total)
    for sku, price, total in refunds.values_list("event__sku", "event__price").annotate(total=Sum("charge_nanos")):
        facts[*name, sku, price, None] -= int(total)
    for row in late_sums(invoice.account_id, invoice.starts_at):
        facts[*name, row["event__sku"], row["event__price"], row["month"]] += int(row["c"])
    return {key: total for key, total in facts.items() if total}
