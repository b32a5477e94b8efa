"""From an unpaid invoice to a stopped credit line, and back: the days of grace, and what ends them."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing import credit_lines
from billing.customers import lock_customer, notify
from billing.models import Account, Invoice, Notice

Status = Invoice.Status


def grace() -> timedelta:
    """Return how long calls go on after an invoice was not paid."""
    return timedelta(days=settings.DUNNING_GRACE_DAYS)


def stops_at(invoice: Invoice) -> datetime | None:
    """Return when an unpaid invoice stops its account's line, or None while it was not missed."""
    return invoice.past_due_at + grace() if invoice.past_due_at and invoice.status == Status.PAST_DUE else None


def find_pressing(account: Account) -> Invoice | None:
    """Return the oldest invoice of an account that was not paid in time, if any: what its people have to be told of."""
    missed = Invoice.objects.filter(account=account, status__in=[Status.PAST_DUE, Status.UNCOLLECTIBLE])
    return missed.order_by("past_due_at", "starts_at").first()


def may_restore(account: Account) -> bool:
    """Whether no invoice of an account stops its line any more."""
    if Invoice.objects.filter(account=account, status=Status.UNCOLLECTIBLE).exists():
        return False
    return not Invoice.objects.filter(account=account, status=Status.PAST_DUE, past_due_at__lte=timezone.now() - grace()).exists()


def stop(invoice: Invoice) -> bool:
    """Stop the line of an invoice's account; False where it was stopped. In a transaction."""
    if not credit_lines.withdraw_line(invoice.account):
        return False
    notify(invoice.account, Notice.Kind.LINE_WITHDRAWN, subject=invoice.number)
    return True


def missed_invoices(*, now: datetime) -> list[Invoice]:
    """Return the open invoices whose day has passed, the oldest first. Not one that cannot be paid yet: it has no page at the provider."""
    missed = Invoice.objects.select_related("account").filter(status=Status.OPEN, due_at__lt=now).exclude(hosted_url="")
    return list(missed.order_by("due_at"))


def stop_lines(*, now: datetime) -> int:
    """Stop the line of each account whose grace is over; return how many were stopped. Safe at the same time as itself."""
    over = Invoice.objects.filter(status=Status.PAST_DUE, past_due_at__lte=now - grace(), account__line_withdrawn_at__isnull=True)
    stopped = 0
    for invoice in over.select_related("account").order_by("past_due_at"):
        with transaction.atomic():
            lock_customer(invoice.account)  # A payment that is being applied decides first.
            if Invoice.objects.filter(pk=invoice.pk, status=Status.PAST_DUE).exists():
                stopped += stop(invoice)
    return stopped
