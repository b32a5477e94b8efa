"""Post usage to the ledger: an hour that is over, by account, SKU and price, and later what changed of it.

Which hours have something to post is seen from the hourly sums, which are written with the calls; what is posted is
summed from the calls themselves.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import Error, transaction
from django.db.models import Exists, F, OuterRef, Q, Sum, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from billing import ledger
from billing.ids import uuid7
from billing.late_usage import book_late
from billing.models import Account, LedgerTransaction, UsageEvent, UsagePosting, UsageRefund, UsageRollup
from billing.periods import EPOCH, hour_of, month_of
from billing.receipts import leaf_hash, merkle_root
from billing.shares import find_share
from billing.splitting import WHOLE, split_more
from billing.sql import as_text

log = logging.getLogger(__name__)

# An hour is posted this long after its end: its calls have settled by then, the longest takes a minute.
POST_AFTER: Final = timedelta(minutes=10)
# What a run looks back on. What a longer silence left is posted by the daily run over everything, and by the month's close.
_LOOK_BACK: Final = timedelta(hours=48)
# Accounts that are compared by one statement.
_AT_ONCE: Final = 500
_USAGE: Final = UsagePosting.Kind.USAGE
_REFUND: Final = UsagePosting.Kind.REFUND


class _Call(NamedTuple):
    """A call, as a range and its root name it."""

    event: UUID
    seq: int | None  # Its receipt's number.
    leaf: bytes


@dataclass(slots=True)
class _Part:
    """Calls of one SKU at one price in an hour, used or refunded, that are on one month's invoice, as they stand now."""

    sku: str
    price_id: UUID
    unit: str
    kind: UsagePosting.Kind
    period: datetime
    units: int = 0
    charge: int = 0
    calls: list[_Call] = field(default_factory=list)

    def add(self, call: _Call, *, units: int, charge: int) -> None:
        """Count one more call."""
        self.calls.append(call)
        self.units += units
        self.charge += charge


@dataclass(slots=True)
class _Posted:
    """What an hour's rows of one SKU at one price have come to so far."""

    rows: list[UsagePosting] = field(default_factory=list)

    @property
    def first(self) -> UsagePosting | None:
        """Return the row that the others correct."""
        return next((row for row in self.rows if row.kind == _USAGE), None)

    def split(self) -> tuple[int, int]:
        """Return the charge and the fee that calls and refunds have come to."""
        rows = [row for row in self.rows if row.kind != UsagePosting.Kind.REBATE]
        return sum(row.charge_nanos for row in rows), sum(row.fee_nanos for row in rows)

    def sum_of(self, part: _Part) -> tuple[int, int, int]:
        """Return the events, units and charge that were posted of a part."""
        rows = [row for row in self.rows if (row.kind, row.period) == (part.kind, part.period)]
        return sum(row.events for row in rows), sum(row.units for row in rows), sum(row.charge_nanos for row in rows)


def post_usage(*, now: datetime | None = None, everything: bool = False) -> int:
    """Post what can be of all accounts; return how many rows were. Safe to run twice, or at the same time as itself.

    Args:
        now: The time.
        everything: Look at all hours there are, not only at those of two days and since the last row.
    """
    now = now or timezone.now()
    since = EPOCH if everything else _since(now)
    until = hour_of(now - POST_AFTER)
    posted = 0
    for accounts in _some_at_once(since=since, until=until):
        for account in accounts:
            try:
                posted += post_account(account, since=since, until=until)
            except Error:  # The next run tries again; the others need not wait for it.
                log.exception("The usage of %s could not be posted.", account.pk)
    return posted


def _some_at_once(*, since: datetime, until: datetime) -> Iterator[Sequence[Account]]:
    """Yield the accounts that may have something to post: few statements for those that have not, which are most of them each time."""
    used = UsageRollup.objects.filter(account=OuterRef("pk"), price__isnull=False, hour__gte=since, hour__lt=until)
    refunds = UsageRefund.objects.filter(created_at__gte=since, event__price__isnull=False)
    concerned = Account.objects.filter(Exists(used) | Exists(refunds.filter(account=OuterRef("pk")))).order_by("pk").iterator()
    while accounts := list(islice(concerned, _AT_ONCE)):
        stale = {account for account, _ in _unposted(accounts, Q(hour__gte=since, hour__lt=until))}
        # Refunds of hours before, which the sums of these hours do not show.
        stale.update(refunds.filter(account__in=accounts, event__occurred_at__lt=since).values_list("account", flat=True))
        yield [account for account in accounts if account.pk in stale]


def post_account(account: Account, *, since: datetime, until: datetime, booked_in: datetime | None = None) -> int:
    """Post what is not yet of an account's hours in [since, until), and of its refunds; return how many rows were posted.

    Args:
        account: Whose.
        since: The first moment of an hour.
        until: Likewise: hours before it are over.
        booked_in: Refunds on the bill of this month, by its first moment, instead of those made since.
    """
    begins = posts_from(account)
    refunds = UsageRefund.objects.filter(account=account, event__price__isnull=False, booked_at__gte=begins)
    if booked_in is None:
        refunds = refunds.filter(created_at__gte=since)
    else:
        refunds = refunds.filter(booked_at__gte=booked_in, booked_at__lt=month_of(booked_in)[1])
    refunded = {hour_of(moment) for moment in refunds.filter(event__occurred_at__lt=until).values_list("event__occurred_at", flat=True)}
    hours = {hour for hour in refunded if hour < begins}
    window = Q(hour__gte=max(since, begins), hour__lt=until) | Q(hour__in=[hour for hour in refunded if begins <= hour])
    hours |= {hour for _, hour in _unposted([account], window)}
    return sum(_post_hour(account, hour, begins=begins) for hour in sorted(hours))


def posts_from(account: Account) -> datetime:
    """Return from when on an account's usage is posted. The months before were charged in one sum each when they were closed."""
    ends = {f"invoice:{number}": ends_at for number, ends_at in account.invoices.values_list("number", "ends_at")}
    charged = LedgerTransaction.objects.filter(kind="invoice", reference__in=ends)
    return max((ends[reference] for reference in charged.values_list("reference", flat=True)), default=EPOCH)


def _since(now: datetime) -> datetime:
    last = UsagePosting.objects.order_by("-pk").first()
    return EPOCH if last is None else hour_of(min(now, last.created_at) - _LOOK_BACK)


def _unposted(accounts: Sequence[Account], hours: Q) -> set[tuple[UUID, datetime]]:
    """Return those of the accounts' hours whose sums are not what was posted of them."""
    # As text, for a month of an account has hundreds of hours, and to make ids and moments of them would be most of the work.
    key = Cast("account", TextField()), as_text("hour", "2026-11-30 16")
    used = UsageRollup.objects.filter(hours, account__in=accounts, price__isnull=False).values_list(*key).order_by()
    facts = used.annotate(n=Sum("events"), c=Sum("charge_nanos"), rn=Sum("refunded_events"), rc=Sum("refunded_nanos"))
    usage, refund = Q(kind=_USAGE), Q(kind=_REFUND)
    rows = UsagePosting.objects.filter(hours, account__in=accounts).values_list(*key).order_by()
    found = rows.annotate(
        n=Sum("events", filter=usage),
        c=Sum("charge_nanos", filter=usage),
        rn=Sum("events", filter=refund),
        rc=Sum("charge_nanos", filter=refund),
    )
    posted = {(whose, at): [abs(int(one or 0)) for one in sums] for whose, at, *sums in found}
    stale = [(whose, at) for whose, at, *sums in facts if [int(one) for one in sums] != posted.get((whose, at))]
    return {(UUID(whose), datetime.fromisoformat(at).replace(tzinfo=UTC)) for whose, at in stale}


@transaction.atomic
def _post_hour(account: Account, hour: datetime, *, begins: datetime) -> int:
    # One at a time, and no refund meanwhile. NO KEY: settling calls refer to the row and need not wait.
    Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    # Calls settle meanwhile: one that is late must not be posted to the closed month, or no invoice would have it.
    billed = book_late(account, hour) if hour >= begins else Q()
    posted: dict[tuple[str, UUID], _Posted] = {}
    for row in UsagePosting.objects.filter(account=account, hour=hour).order_by("number"):
        posted.setdefault((row.sku, row.price_id), _Posted()).rows.append(row)
    count = 0
    for part in _parts(account, hour, begins=begins, billed=billed):
        so_far = posted.setdefault((part.sku, part.price_id), _Posted())
        events, units, charge = so_far.sum_of(part)
        sign = -1 if part.kind == _REFUND else 1
        more = sign * len(part.calls) - events
        # Only calls that came: where fewer are left, or their charges have changed, the books tell of it.
        if more * sign > 0:
            so_far.rows.append(_post(account, hour, part, so_far, (more, sign * part.units - units, sign * part.charge - charge)))
            count += 1
    return count


def _parts(account: Account, hour: datetime, *, begins: datetime, billed: Q) -> Sequence[_Part]:
    """Return an hour's calls by SKU, price and invoice: the used ones first, in the order in which they were settled."""
    rows = UsageEvent.objects.filter(
        billed, account=account, price__isnull=False, occurred_at__gte=hour, occurred_at__lt=hour + timedelta(hours=1)
    ).order_by(F("receipt__seq").asc(nulls_first=True), "occurred_at", "pk")
    if hour < begins:
        rows = rows.filter(refund__booked_at__gte=begins)
    columns = (
        "pk",
        "sku",
        "price",
        "unit",
        "units",
        "charge_nanos",
        "receipt__seq",
        "receipt__hash",
        "refund__booked_at",
        "refund__charge_nanos",
        "late__period",
    )
    used: dict[tuple[Any, ...], _Part] = {}
    refunded: dict[tuple[Any, ...], _Part] = {}
    for event, sku, price, unit, units, charge, seq, leaf, booked_at, refund, late in rows.values_list(*columns).iterator(chunk_size=5000):
        call = _Call(event, seq, bytes(leaf) if leaf else leaf_of(event, units=units, charge_nanos=charge))
        if hour >= begins:
            period = late or month_of(hour)[0]
            part = used.setdefault((sku, price, period), _Part(sku, price, unit, _USAGE, period))
            part.add(call, units=units, charge=charge)
        if booked_at is not None and booked_at >= begins:
            period = month_of(booked_at)[0]
            part = refunded.setdefault((sku, price, period), _Part(sku, price, unit, _REFUND, period))
            part.add(call, units=units, charge=refund)
    return [*used.values(), *(refunded[key] for key in sorted(refunded))]


def leaf_of(event: UUID, *, units: int, charge_nanos: int) -> bytes:
    """Return what stands in the tree for a call that has no receipt."""
    return leaf_hash(f"{event.hex} {units} {charge_nanos}".encode())


def _post(account: Account, hour: datetime, part: _Part, so_far: _Posted, more: tuple[int, int, int]) -> UsagePosting:
    events, units, charge = more
    first = so_far.first
    if first is not None:
        payee, basis_points = first.payee, first.fee_basis_points
    elif part.kind == _USAGE and (share := find_share(sku=part.sku, price_id=part.price_id, at=hour, payer=account)):
        payee, basis_points = share.payee, share.fee_basis_points
    else:  # Nobody is paid for it; or its month was charged before there were shares.
        payee, basis_points = None, WHOLE
    posted, fee_posted = so_far.split()
    split = split_more(charge, posted=posted, fee_posted=fee_posted, fee_basis_points=basis_points)
    row = UsagePosting(
        id=uuid7(),
        account=account,
        hour=hour,
        sku=part.sku,
        price_id=part.price_id,
        unit=part.unit,
        number=len(so_far.rows) + 1,
        kind=part.kind,
        period=part.period,
        corrects=first,
        events=events,
        units=units,
        charge_nanos=charge,
        fee_nanos=split.fee,
        share_nanos=split.share,
        payee=payee,
        fee_basis_points=basis_points,
        range_events=len(part.calls),
        first_event=part.calls[0].event,
        last_event=part.calls[-1].event,
        first_seq=part.calls[0].seq,
        last_seq=part.calls[-1].seq,
        merkle_root=merkle_root([call.leaf for call in part.calls]).hex(),
    )
    amounts = {
        ledger.credit_account_name(account): -charge,
        ledger.fund_name(ledger.REVENUE, account.currency): split.fee,
    }
    if payee is not None:
        amounts[ledger.provider_account_name(payee, currency=account.currency)] = split.share
    amounts = {name: amount for name, amount in amounts.items() if amount}
    if amounts:
        kind = "usage" if part.kind == _USAGE else "usage_refund"
        row.transaction = ledger.post(kind=kind, reference=f"usage:{row.pk}", by="system", amounts=amounts, owner=account)
    row.save(force_insert=True)
    return row
