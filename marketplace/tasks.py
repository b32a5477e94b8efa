"""Work off the call: what the marketplace sweeps up. Every task may run twice."""

import logging
import os
import subprocess
import sys
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from marketplace import audit, payments, plans, predictions, reviews, runner
from marketplace.examining import waiting_versions
from marketplace.models import ControlChange, GatewayReport, IdempotencyRecord, RequestLog, WebhookMessage
from marketplace.webhooks import delivering, invoice_notices, mails, notices

log = logging.getLogger(__name__)

_FEED_DAYS = 1


@shared_task
def prune() -> None:
    """Delete what has had its time: old log lines, kept replies and feed entries.

    Usage events stay for ever: bills rest on them.
    """
    now = timezone.now()
    RequestLog.objects.filter(occurred_at__lt=now - timedelta(days=settings.REQUEST_LOG_DAYS)).delete()
    IdempotencyRecord.objects.filter(created_at__lt=now - timedelta(hours=settings.IDEMPOTENCY_HOURS)).delete()
    GatewayReport.objects.filter(reported_at__lt=now - timedelta(days=_FEED_DAYS)).delete()
    ControlChange.objects.filter(created_at__lt=now - timedelta(days=_FEED_DAYS)).delete()
    RequestLog.objects.filter(occurred_at__lt=now - timedelta(hours=1)).exclude(reply="").update(reply="")
    WebhookMessage.objects.filter(created_at__lt=now - timedelta(days=settings.WEBHOOK_LOG_DAYS)).delete()
    predictions.forget_old()


@shared_task
def check_books() -> None:
    """Compare every balance with the facts it stands for, once an hour; on a difference, stop charging whom it concerns.

    Asked for each minute, so that the first check does not wait an hour for a site that was just started.
    """
    reviews.check_books()


@shared_task
def check_audit() -> None:
    """Check the audit chain, once an hour, and log it as an error where it is broken.

    Asked for each minute, as the books are.
    """
    check = audit.check_this_hour()
    if check is not None and check.broken_sequence is not None:
        log.error("The audit chain is broken at event %d: %s", check.broken_sequence, check.words)


@shared_task
def run_predictions() -> None:
    """Run predictions and batch rows that are due; a nudge, and a sweep every few seconds."""
    runner.run_due()


@shared_task
def look_for_notices() -> None:
    """Tell organizations of budgets that fill up and keys that expire soon: once each."""
    notices.look()
    invoice_notices.look()


@shared_task
def deliver_webhooks() -> None:
    """Deliver the webhooks that are due; a nudge, and a sweep every few seconds."""
    delivering.deliver_due()


_examiner: "subprocess.Popen[bytes] | None" = None


@shared_task
def examine_versions() -> None:
    """Start a process that examines the versions that wait, unless ours is at it. Safe to run twice, or anywhere.

    A process of its own: an examination takes minutes where a model is hostile, and this one has books to
    check meanwhile. It ends with us; what it leaves half done is taken up again (`examining.py`).
    """
    global _examiner  # noqa: PLW0603 (one child per Celery process, which must be collected)
    if _examiner is not None and _examiner.poll() is None:
        return
    _examiner = None
    if waiting_versions().exists():
        _examiner = subprocess.Popen(  # noqa: S603 (our own interpreter and command)
            [sys.executable, str(settings.BASE_DIR / "manage.py"), "examine", "--parent-pid", str(os.getpid())],
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


@shared_task
def renew_plans() -> None:
    """Charge the month's fee of every plan that is due, and end those whose time is over."""
    plans.renew_due()


@shared_task
def send_notices() -> None:
    """Mail what organizations have to be told of their payments and budgets."""
    payments.send_notices()
    mails.send_budget_mails()
