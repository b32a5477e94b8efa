"""Late usage: calls that were settled after their month was closed. The next invoice bills them, on lines that name their month.

A month is sealed where the account's chain of receipts stands when it is closed: its receipts have lower
numbers, and what comes later has higher ones, whatever it says of when it was.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import TruncMonth

from billing.models import Account, Invoice, LateUsage, ReceiptHead, UsageEvent
from billing.periods import month_of


def seal(account: Account) -> int:
    """Return the number of an account's last receipt, with its chain locked: no receipt is written until the transaction ends."""
    # An account without receipts has no head to lock. Its first call waits all the same: who closes holds its credit (`lock_credit`).
    head = ReceiptHead.objects.select_for_update().filter(account=account).first()
    return head.seq if head else 0


def is_over(account: Account, moment: datetime) -> bool:
    """Whether the month of a moment is closed, or was passed over: whatever is added to it now goes on a later invoice."""
    return Invoice.objects.filter(account=account, starts_at__gte=month_of(moment)[0]).exists()


def book_late(account: Account, hour: datetime) -> Q:
    """Book an hour's late calls on the next invoice. With the account locked, as its closes are.

    Returns:
        The condition of the events that are on an invoice's lines by now, or will be. A late one that is settled
        meanwhile is not: it is booked, and posted, the next time.
    """
    sealed = Invoice.objects.filter(account=account, starts_at__gte=month_of(hour)[0]).order_by("starts_at").first()
    if sealed is None or sealed.sealed_seq is None:
        return Q()
    span = {"occurred_at__gte": hour, "occurred_at__lt": hour + timedelta(hours=1)}
    events = UsageEvent.objects.filter(account=account, price__isnull=False, receipt__seq__gt=sealed.sealed_seq, late__isnull=True, **span)
    # The month after the last closed one, so that nothing comes between: `late_of` tells what is on an invoice.
    period = Invoice.objects.filter(account=account).order_by("-starts_at").values_list("ends_at", flat=True)[0]
    rows = [LateUsage(event_id=event, account=account, period=period) for event in events.values_list("pk", flat=True)]
    LateUsage.objects.bulk_create(rows)
    return Q(late__isnull=False) | Q(receipt__isnull=True) | Q(receipt__seq__lte=sealed.sealed_seq)


def late_of(account_id: UUID, period: datetime) -> QuerySet[LateUsage]:
    """Return the late calls that are on a month's invoice."""
    return LateUsage.objects.filter(account=account_id, period=period)


def late_calls(invoice: Invoice) -> list[tuple[UUID, datetime]]:
    """Return the late calls on an invoice by their receipts' numbers, each with the first moment of its month."""
    rows = late_of(invoice.account_id, invoice.starts_at).order_by("event__receipt__seq").values_list("pk", "event__occurred_at")
    return [(event, month_of(moment)[0]) for event, moment in rows]


def late_sums(account_id: UUID, period: datetime) -> Iterable[Mapping[str, Any]]:
    """Sum the late calls on a month's invoice by SKU, unit, price and the month they are of."""
    month = TruncMonth("event__occurred_at", tzinfo=UTC)
    rows = late_of(account_id, period).annotate(month=month).values("event__sku", "event__unit", "event__price", "month").order_by()
    return rows.annotate(n=Count("pk"), u=Sum("event__units"), c=Sum("event__charge_nanos"))


def on_own_lines(invoice: Invoice) -> Q:
    """Return the condition of the events that an invoice's own lines, not those of late usage, are the sums of. Reads receipts."""
    own = Q(account=invoice.account_id, price__isnull=False, occurred_at__gte=invoice.starts_at, occurred_at__lt=invoice.ends_at)
    if invoice.sealed_seq is None:
        return own
    return own & (Q(receipt__isnull=True) | Q(receipt__seq__lte=invoice.sealed_seq))


def seal_before(invoice: Invoice) -> int:
    """Return where the invoice before was sealed: late calls on this one have higher numbers."""
    before = Invoice.objects.filter(account=invoice.account_id, starts_at__lt=invoice.starts_at).order_by("-starts_at").first()
    return (before.sealed_seq or 0) if before else 0
