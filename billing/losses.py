"""Lost disputes: the calls that the money had paid for are refunded, so that the providers' shares of them go back, too.

The bank has given the money to the customer for good. What of it was unspent credit is gone already; what was spent is
what the balance lies below zero. Nobody will pay that, so it is neither owed nor a provider's to be paid.
"""

import logging
from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing import ledger
from billing.customers import lock_customer
from billing.models import CreditReversal, Dispute, UsageEvent
from billing.money import NANOS_PER_CENT
from billing.refunding import refund_events

log = logging.getLogger(__name__)

# Calls of one transaction: locks are held for some 100 ms at most.
_BATCH: Final = 500


def refund_lost_disputes() -> int:
    """Refund what lost disputes had paid for; return how many calls were refunded. Safe to run twice, or at the same time as itself."""
    if not settings.LOST_DISPUTES_REFUND_CALLS:
        return 0
    refunded = 0
    for dispute in Dispute.objects.filter(status=Dispute.Status.LOST, refunded_at__isnull=True).order_by("created_at"):
        while (more := _refund_some(dispute)) is not None:
            refunded += more
    return refunded


@transaction.atomic
def _refund_some(dispute: Dispute) -> int | None:
    """Refund the newest calls that the disputed money had paid for; None once nothing is left to refund."""
    lock_customer(dispute.top_up.account)
    dispute = Dispute.objects.select_related("top_up__account").get(pk=dispute.pk)
    if dispute.refunded_at is not None:
        return None
    account = dispute.top_up.account
    now = ledger.balance(account)
    spent, until = _spent_of(dispute)
    left = min(spent - dispute.refunded_nanos, now.spent - now.granted)
    chosen: list[UsageEvent] = []
    since = dispute.top_up.settled_at or dispute.top_up.created_at
    events = UsageEvent.objects.filter(account=account, livemode=True, charge_nanos__gt=0, refund__isnull=True, occurred_at__gte=since)
    if until is not None:
        events = events.filter(occurred_at__lt=until)
    # Whole calls, the newest first: they were made when nothing but this money was left. What no whole call fits stays owed.
    for event in events.order_by("-occurred_at", "-pk")[:_BATCH]:
        if event.charge_nanos <= left:
            chosen.append(event)
            left -= event.charge_nanos
    if not chosen:
        dispute.refunded_at = timezone.now()
        dispute.save(update_fields=["refunded_at"])
        return None
    refund_events(chosen, reason="The payment behind it was disputed and lost.", by="payments")
    dispute.refunded_nanos += sum(event.charge_nanos for event in chosen)
    dispute.save(update_fields=["refunded_nanos"])
    log.info("%d calls that the lost dispute %s had paid for are refunded.", len(chosen), dispute.pk)
    return len(chosen)


def _spent_of(dispute: Dispute) -> tuple[int, datetime | None]:
    """Return how much of the disputed money had been spent, at most, and until when, if that matters.

    Of an account without a credit line the balance tells: it is below zero by nothing else. With one, calls after the
    dispute are owed by the line, and this money has not paid for them: there it is what was spent when the credit was taken.
    """
    amount: int = dispute.amount_cents * NANOS_PER_CENT
    account = dispute.top_up.account
    if not account.credit_line_nanos and account.line_ended_at is None:
        return amount, None
    taken = CreditReversal.objects.filter(reference=f"dispute:{dispute.pk}").first()
    return (amount, None) if taken is None or taken.spent_nanos is None else (taken.spent_nanos, taken.created_at)
