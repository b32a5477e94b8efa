"""Work off the call: what the marketplace sweeps up. Every task may run twice."""

import logging
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from marketplace import audit
from marketplace.models import ControlChange, IdempotencyRecord, RequestLog

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
    ControlChange.objects.filter(created_at__lt=now - timedelta(days=_FEED_DAYS)).delete()
    RequestLog.objects.filter(occurred_at__lt=now - timedelta(hours=1)).exclude(reply="").update(reply="")


@shared_task
def check_audit() -> None:
    """Check the audit chain, once an hour, and log it as an error where it is broken.

    Asked for each minute, as the books are.
    """
    check = audit.check_this_hour()
    if check is not None and check.broken_sequence is not None:
        log.error("The audit chain is broken at event %d: %s", check.broken_sequence, check.words)
