"""The figures of the whole site that its database tells, for /metrics: the same whichever process is asked."""

from collections.abc import Mapping
from datetime import datetime

from django.db.models import Min
from django.utils import timezone

from billing import books
from billing.models import OutboxRow
from marketplace import audit
from marketplace.models import WebhookDelivery


def read_site_figures() -> Mapping[str, tuple[str, float]]:
    """Return name -> help and value. What nobody has found out yet is left out: it must not read 0. Blocks on I/O."""
    figures: dict[str, tuple[str, float]] = {}
    now = timezone.now()
    run = books.find_last_run()
    if run is not None:
        age_s = (now - run.hour).total_seconds()
        figures["farebox_books_difference_nanos"] = "By how much balances differ from their facts; must read 0", run.difference_nanos
        figures["farebox_books_age_seconds"] = "Since the hour of the last check of the books", age_s
    overdue = "Since the oldest row was due that the payment provider or a webhook has not been told; 0 if none is"
    figures["farebox_outbox_age_seconds"] = overdue, outbox_age_s(now)
    check = audit.find_last_check()
    if check is not None:
        broken = float(check.broken_sequence is not None)
        figures["farebox_audit_chain_broken"] = "1 if the audit chain did not hold at its last check; must read 0", broken
    return figures


def outbox_age_s(now: datetime) -> float:
    """Return how many seconds ago the oldest outbox row was due that is not delivered; 0 where none is overdue.

    A row that waits for its next try is not late: a webhook's retries are hours apart.
    """
    waiting = (
        OutboxRow.objects.filter(state=OutboxRow.State.WAITING),
        WebhookDelivery.objects.filter(state=WebhookDelivery.State.PENDING),
    )
    due: list[datetime | None] = [rows.aggregate(oldest=Min("due_at"))["oldest"] for rows in waiting]
    return max([0.0, *((now - moment).total_seconds() for moment in due if moment is not None)])
