"""Bills: what the current month comes to so far, and the closing of past ones.

A line is one SKU at one price: the sum of its events, less refunds booked in the period, to the
nano, rounded to cents once, half to even. What rounding leaves is carried, visibly, to the next bill.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count, Sum
from django.db.models.functions import Now

from billing import collecting, late_usage, posting, taxing
from billing.customers import lock_customer
from billing.errors import PeriodNotOver
from billing.fees import lock_credit
from billing.models import Account, Invoice, InvoiceLine, LateUsage, UsageRefund, UsageRollup
from billing.money import Nanos, round_to_cents
from billing.periods import EPOCH, month_of
from billing.providers import collects_money
from billing.rebates import give_rebates
from billing.receipting import Line, late_roots, sums_by_line
from billing.tax import buyer_lines, post_tax, rate_of, seller_lines, tax_within

log = logging.getLogger(__name__)

# A month is closed this long after its end: the calls that began in it have settled by then
# (the longest takes a minute), and what a crash left in doubt was refunded.
CLOSE_AFTER: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLine:
    """One SKU at one price."""

    sku: str
    unit: str
    price_id: UUID
    events: int
    units: int
    charge_nanos: Nanos
    amount_cents: int
    remainder_nanos: Nanos  # charge_nanos = amount_cents * 10**7 + remainder_nanos
    late_from: datetime | None = None  # The month that its calls are of, where that was closed before they came.


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """An account's month, open or about to be closed."""

    account_id: UUID
    starts_at: datetime
    ends_at: datetime
    currency: str
    lines: Sequence[BillLine]
    carried_in_nanos: Nanos  # What rounding left on the bill before,
    carried_in_cents: int  # its whole cents, which this bill adds,
    carried_out_nanos: Nanos  # and what this bill leaves.
    total_cents: int

    @property
    def charge_nanos(self) -> Nanos:
        """The sum of the lines before rounding."""
        return Nanos(sum(line.charge_nanos for line in self.lines))


def upcoming_invoice(account: Account, *, now: datetime) -> Bill:
    """Return what the month of `now` comes to so far. Read from the hourly sums, so it is quick."""
    starts_at, ends_at = month_of(now)
    rollups = UsageRollup.objects.filter(account=account, price__isnull=False, hour__gte=starts_at, hour__lt=ends_at)
    used = rollups.values("sku", "unit", "price").annotate(n=Sum("events"), u=Sum("units"), c=Sum("charge_nanos"))
    return _bill(account, starts_at, ends_at, used)


def close_period(account: Account, starts_at: datetime, *, now: datetime | None = None) -> Invoice:
    """Bill the month that starts at a moment, for good; return the invoice, the first one if there is one.

    Its lines are summed from the events themselves. The charge has left the account's credit in the ledger by
    then, hour by hour: what was not posted yet is posted first.

    Args:
        account: Whose month.
        starts_at: The first moment of a month, UTC.
        now: The time; None asks the database.

    Raises:
        PeriodNotOver: it is too early. Nothing was billed.
        ValueError: `starts_at` is not the start of a month, or a later one is closed already: what came after is on the next;
            or an earlier one is still to be closed.
    """
    first, ends_at = month_of(starts_at)
    if first != starts_at:
        message = f"{starts_at.isoformat()} is not the start of a month."
        raise ValueError(message)
    with transaction.atomic():
        # One close at a time, and no refund that books into the month meanwhile. Customer, credit, account: in the
        # order that payments and renewals lock them, who come at the month's end, too.
        if collects_money() and (account.credit_line_nanos or account.line_ended_at or taxing.is_on()):
            lock_customer(account)
        lock_credit(account)
        account.refresh_from_db()
        if connection.vendor == "postgresql":  # A large month's sums take as long as they take.
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = 0")
                cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        found = Invoice.objects.filter(account=account, starts_at=first).first()
        if found is not None:
            return found
        if (now or _database_now(account)) < ends_at + CLOSE_AFTER:
            raise PeriodNotOver(ends_at=ends_at)
        if late_usage.is_over(account, first):
            message = f"A month later than {first:%Y-%m} is closed already."
            raise ValueError(message)
        sealed_seq = late_usage.seal(account)
        # Its receipts are sealed by this close, too: a month that is passed over now would be on no invoice ever.
        if (earliest := _first_after(account, _billed_until(account))) is not None and earliest < first:
            message = f"{earliest:%Y-%m} is not closed yet, and comes before {first:%Y-%m}."
            raise ValueError(message)
        # From the beginning: what came late to months that are closed is on this invoice.
        posting.post_account(account, since=EPOCH, until=ends_at, booked_in=first)
        sums = sums_by_line(account, since=first, until=ends_at)
        used = [
            {"sku": one.sku, "unit": one.unit, "price": one.price_id, "n": one.events, "u": one.units, "c": one.charge_nanos}
            for one in sums
        ]
        roots: dict[Line, str] = {(one.sku, one.price_id, None): one.root for one in sums}
        return _persist(account, _bill(account, first, ends_at, used), roots, sealed_seq=sealed_seq)


def close_periods(*, now: datetime | None = None) -> int:
    """Close every month that is over and in which something was used; return how many were closed."""
    closed = 0
    for account in Account.objects.order_by("pk").iterator():
        try:
            closed += _close_account(account, now=now)
        except Exception:  # The next run tries again; the others need not wait for it.
            log.exception("The months of %s could not be closed.", account.pk)
    return closed


def _close_account(account: Account, *, now: datetime | None) -> int:
    moment = now or _database_now(account)
    months = _open_months(account, until=moment)
    for starts_at in months:
        close_period(account, starts_at, now=moment)
    return len(months)


def _open_months(account: Account, *, until: datetime) -> list[datetime]:
    """Return the months to close, oldest first, since each carries its remainder to the next."""
    since = _billed_until(account)
    months: list[datetime] = []
    while (moment := _first_after(account, since)) is not None:
        starts_at, since = month_of(moment)
        if until < since + CLOSE_AFTER:
            break
        months.append(starts_at)
    return months


def _billed_until(account: Account) -> datetime:
    return Invoice.objects.filter(account=account).order_by("-starts_at").values_list("ends_at", flat=True).first() or EPOCH


def _first_after(account: Account, since: datetime) -> datetime | None:
    """Return the first moment at or after another that has something to bill: usage, a refund, or late usage."""
    rollups = UsageRollup.objects.filter(account=account, price__isnull=False, hour__gte=since)
    refunds = UsageRefund.objects.filter(account=account, event__price__isnull=False, booked_at__gte=since)
    late = LateUsage.objects.filter(account=account, period__gte=since)
    found = [
        rollups.order_by("hour").values_list("hour", flat=True).first(),
        refunds.order_by("booked_at").values_list("booked_at", flat=True).first(),
        late.order_by("period").values_list("period", flat=True).first(),
    ]
    return min((moment for moment in found if moment is not None), default=None)


def _database_now(account: Account) -> datetime:
    moment: datetime = Account.objects.filter(pk=account.pk).values_list(Now(), flat=True).get()
    return moment


def _bill(account: Account, starts_at: datetime, ends_at: datetime, used: Iterable[Mapping[str, Any]]) -> Bill:
    lines = [*_lines(used, _refunded(account, starts_at, ends_at)), *_late_lines(account, starts_at)]
    before = Invoice.objects.filter(account=account, starts_at__lt=starts_at).order_by("-starts_at").first()
    carried_in = before.carried_out_nanos if before else 0
    carried_cents, carried_rest = round_to_cents(carried_in)
    return Bill(
        account_id=account.pk,
        starts_at=starts_at,
        ends_at=ends_at,
        currency=account.currency,
        lines=lines,
        carried_in_nanos=Nanos(carried_in),
        carried_in_cents=carried_cents,
        carried_out_nanos=Nanos(carried_rest + sum(line.remainder_nanos for line in lines)),
        total_cents=carried_cents + sum(line.amount_cents for line in lines),
    )


def _refunded(account: Account, starts_at: datetime, ends_at: datetime) -> Iterable[Mapping[str, Any]]:
    """Sum the refunds booked in a period, of this month's events or of earlier, closed months'."""
    refunds = UsageRefund.objects.filter(account=account, booked_at__gte=starts_at, booked_at__lt=ends_at, event__price__isnull=False)
    return refunds.values("event__sku", "event__unit", "event__price").annotate(n=Count("pk"), u=Sum("event__units"), c=Sum("charge_nanos"))


def _lines(used: Iterable[Mapping[str, Any]], refunded: Iterable[Mapping[str, Any]]) -> list[BillLine]:
    sums: dict[tuple[str, str, UUID], list[int]] = {}
    for row in used:
        sums[row["sku"], row["unit"], row["price"]] = [int(row["n"]), int(row["u"]), int(row["c"])]
    for row in refunded:
        total = sums.setdefault((row["event__sku"], row["event__unit"], row["event__price"]), [0, 0, 0])
        for place, name in enumerate(("n", "u", "c")):
            total[place] -= int(row[name])
    lines = []
    for (sku, unit, price_id), (events, units, charge) in sorted(sums.items()):
        if events or units or charge:  # Not where all was refunded.
            lines.append(_line(sku, unit, price_id, (events, units, charge)))
    return lines


def _late_lines(account: Account, starts_at: datetime) -> list[BillLine]:
    """Return the lines of calls that came after their month was closed: whole, for their refunds are of months after that."""
    rows = sorted(late_usage.late_sums(account.pk, starts_at), key=lambda row: (row["month"], row["event__sku"], str(row["event__price"])))
    return [
        _line(
            row["event__sku"],
            row["event__unit"],
            row["event__price"],
            (int(row["n"]), int(row["u"]), int(row["c"])),
            late_from=row["month"],
        )
        for row in rows
    ]


def _line(sku: str, unit: str, price_id: UUID, sums: tuple[int, int, int], *, late_from: datetime | None = None) -> BillLine:
    events, units, charge = sums
    cents, remainder = round_to_cents(charge)
    return BillLine(
        sku=sku,
        unit=unit,
        price_id=price_id,
        events=events,
        units=units,
        charge_nanos=Nanos(charge),
        amount_cents=cents,
        remainder_nanos=remainder,
        late_from=late_from,
    )


def _persist(account: Account, bill: Bill, roots: Mapping[Line, str], *, sealed_seq: int) -> Invoice:
    tax = rate_of(account)
    invoice = Invoice.objects.create(
        # The account's last 48 random bits: numbers tell nobody how many customers there are.
        number=f"{bill.starts_at:%Y%m}-{account.pk.hex[-12:]}",
        account=account,
        starts_at=bill.starts_at,
        ends_at=bill.ends_at,
        currency=bill.currency,
        carried_in_nanos=bill.carried_in_nanos,
        carried_in_cents=bill.carried_in_cents,
        carried_out_nanos=bill.carried_out_nanos,
        total_cents=bill.total_cents,
        tax_name=tax.name,
        tax_basis_points=tax.basis_points,
        tax_cents=tax_within(bill.total_cents, tax.basis_points),
        seller=seller_lines(),
        buyer=buyer_lines(account),
        sealed_seq=sealed_seq,
    )
    roots = {**roots, **late_roots(account, bill.starts_at)}
    InvoiceLine.objects.bulk_create(
        InvoiceLine(
            invoice=invoice,
            price_id=line.price_id,
            sku=line.sku,
            unit=line.unit,
            events=line.events,
            units=line.units,
            charge_nanos=line.charge_nanos,
            amount_cents=line.amount_cents,
            remainder_nanos=line.remainder_nanos,
            merkle_root=roots.get((line.sku, line.price_id, line.late_from), ""),
            late_from=line.late_from,
        )
        for line in bill.lines
    )
    post_tax(account, invoice.tax_cents, reference=invoice.number)
    give_rebates(account, invoice)
    collecting.open_invoice(account, invoice)
    taxing.ask_tax(account, invoice)
    log.info("Closed %s: %d cents.", invoice.number, invoice.total_cents)
    return invoice
