"""Charge past calls again: at a draft price, to see what it would have brought, or at their own, to check what was billed.

Nothing is written. Calls are walked in the order in which they were settled, which their receipts'
numbers tell, by the same function that charged them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db.models import F

from billing.books import Difference
from billing.models import Account, Invoice, Price, UsageEvent
from billing.money import Nanos
from billing.periods import EPOCH
from billing.prices import terms_of
from billing.pricing import Shape, Terms, shape_of
from billing.rating import CounterKey, rate_history


@dataclass(frozen=True, slots=True)
class Sum:
    """What calls were charged, and what they would have been."""

    was: int = 0  # Nanos.
    would_be: int = 0

    @property
    def difference(self) -> Nanos:
        """How much more it would have been."""
        return Nanos(self.would_be - self.was)

    def plus(self, was: int, would_be: int) -> "Sum":
        """Return the sum with one more call in it."""
        return Sum(self.was + was, self.would_be + would_be)


@dataclass(slots=True)
class Rerating:
    """A period charged again. Refunded calls keep their place in the month, and are in no sum."""

    total: Sum = field(default_factory=Sum)
    by_account: dict[UUID, Sum] = field(default_factory=dict)
    by_sku: dict[str, Sum] = field(default_factory=dict)


@dataclass(slots=True)
class _Call:
    """A past call, as the rating sees it."""

    account_id: UUID
    terms: Terms | None
    units: int
    is_cached: bool
    occurred_at: datetime
    charge_nanos: int
    sku: str
    was: int
    is_refunded: bool


def rerate(drafts: Mapping[str, Shape], *, since: datetime, until: datetime) -> Rerating:
    """Return what the calls of a period would have come to, had the drafts' SKUs been sold at these prices.

    Args:
        drafts: Shapes by SKU; a draft holds for the whole period, in whatever currency. Other SKUs are left out.
        since: First moment; the first of a month, for tiers begin anew there.
        until: First moment after.
    """
    result = Rerating()
    accounts = UsageEvent.objects.filter(sku__in=list(drafts), occurred_at__gte=since, occurred_at__lt=until, price__isnull=False)
    for account_id in accounts.order_by("account").values_list("account", flat=True).distinct():
        for call in _charged_again(account_id, drafts, since=since, until=until):
            if call.sku not in drafts or call.is_refunded:
                continue
            result.total = result.total.plus(call.was, call.charge_nanos)
            result.by_account[account_id] = result.by_account.get(account_id, Sum()).plus(call.was, call.charge_nanos)
            result.by_sku[call.sku] = result.by_sku.get(call.sku, Sum()).plus(call.was, call.charge_nanos)
    return result


def rederive_invoices() -> list[Difference]:
    """Charge the calls of every closed invoice again at their own prices; return each call that does not come to what it was charged."""
    return [
        difference
        for invoice in Invoice.objects.order_by("pk").iterator()
        for difference in rederive(invoice.account, since=invoice.starts_at, until=invoice.ends_at)
    ]


def rederive(account: Account, *, since: datetime, until: datetime) -> Iterator[Difference]:
    """Yield each call of an account's month whose charge is not what its own price and place come to."""
    for number, call in enumerate(_charged_again(account.pk, {}, since=since, until=until), start=1):
        if call.charge_nanos != call.was:
            of = f"call {number} of {account.pk} from {since:%Y-%m}, {call.sku} at {call.occurred_at.isoformat()}"
            yield Difference(what="charge", of=of, found=call.was, facts=call.charge_nanos)


def _charged_again(account_id: UUID, drafts: Mapping[str, Shape], *, since: datetime, until: datetime) -> Iterator[_Call]:
    rows = UsageEvent.objects.filter(account=account_id, price__isnull=False, occurred_at__gte=since, occurred_at__lt=until)
    prices = {price.pk: terms_of(price) for price in Price.objects.filter(pk__in=rows.order_by().values("price").distinct())}
    terms = {price_id: _drafted(known, drafts) for price_id, known in prices.items()}
    counters = _counters_before(account_id, list(terms.values()), since=since)
    # As settled: by the receipts' numbers; calls from before there were receipts come first, as they came.
    ordered = rows.order_by(F("receipt__seq").asc(nulls_first=True), "occurred_at", "pk")
    columns = ("price", "sku", "units", "cached", "occurred_at", "charge_nanos", "refund")
    for price_id, sku, units, cached, occurred_at, was, refund in ordered.values_list(*columns).iterator(chunk_size=5000):
        call = _Call(account_id, terms[price_id], units, cached, occurred_at, was, sku, was, refund is not None)
        rate_history([call], counters)
        yield call


def _drafted(terms: Terms, drafts: Mapping[str, Shape]) -> Terms:
    shape = drafts.get(terms.sku)
    return terms if shape is None else Terms(terms.price_id, terms.sku, terms.unit, 0, terms.currency, shape, terms.meter)


def _counters_before(account_id: UUID, terms: list[Terms], *, since: datetime) -> dict[CounterKey, int]:
    """Return what trials had counted before the period; months begin at nothing."""
    counters: dict[CounterKey, int] = {}
    for one in terms:
        key = CounterKey(account_id, one.counted_as, one.unit, EPOCH)
        if shape_of(one).trial_units and key not in counters:
            earlier = UsageEvent.objects.filter(account=account_id, unit=one.unit, price__meter=one.meter, occurred_at__lt=since)
            if not one.meter:
                earlier = earlier.filter(sku=one.sku)
            counters[key] = sum(earlier.values_list("units", flat=True))
    return counters
