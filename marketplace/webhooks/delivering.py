"""Deliver what is due: claim, send, note what came of it, and when to try again. Safe to run twice, or beside itself."""

import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import timedelta
from threading import BoundedSemaphore
from typing import Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from billing.ids import public_id
from marketplace.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from marketplace.webhooks.endpoints import disable_endpoint, secrets_of
from marketplace.webhooks.sending import TIMEOUT_S, Answer, post
from marketplace.webhooks.signing import signature_headers

# From a failed attempt to the next, in seconds: at once, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h. 75 hours in all.
DELAYS_S: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
MAX_ATTEMPTS: Final = len(DELAYS_S) + 1
# Up to a fifth later: what failed together must not come back together.
_JITTER: Final = 0.2
# A claim outlives an attempt, so that a deliverer that dies delays its messages by this much.
_CLAIM: Final = timedelta(seconds=TIMEOUT_S * 3)
# At once, of one run. Each may wait 15 s for a stranger's server,
_AT_ONCE: Final = 16
# so no endpoint gets more than some of them.
_PER_ENDPOINT: Final = 4
# And this many runs in one process: whatever strangers' servers do, threads are left for other work.
_runs: Final = BoundedSemaphore(2)


def deliver_due() -> int:
    """Deliver what is due now; return how many attempts were made."""
    if not _runs.acquire(blocking=False):
        return 0  # The sweep comes again.
    try:
        attempts = 0
        while claimed := _claim_due():
            attempts += len(claimed)
            _deliver(claimed)
        return attempts
    finally:
        _runs.release()


def _claim_due() -> Sequence[WebhookDelivery]:
    now = timezone.now()
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lt=now)
    due = WebhookDelivery.objects.filter(free, state=WebhookDelivery.State.PENDING, due_at__lte=now)
    chosen: list[UUID] = []
    per_endpoint: dict[object, int] = {}
    for pk, endpoint_id in due.order_by("due_at").values_list("pk", "endpoint_id")[: _AT_ONCE * 20]:
        per_endpoint[endpoint_id] = per_endpoint.get(endpoint_id, 0) + 1
        if per_endpoint[endpoint_id] <= _PER_ENDPOINT and len(chosen) < _AT_ONCE:
            chosen.append(pk)
    claimed = [pk for pk in chosen if due.filter(pk=pk).update(claimed_until=now + _CLAIM)]
    return list(WebhookDelivery.objects.filter(pk__in=claimed).select_related("message", "endpoint__organization"))


def _deliver(claimed: Sequence[WebhookDelivery]) -> None:
    """Make one attempt each, at once. The threads only wait for strangers: the database is asked before and after."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhook") as threads:
        attempts = {threads.submit(post, delivery.endpoint.url, *_signed(delivery)): delivery for delivery in claimed}
        for attempt in as_completed(attempts):
            try:
                _note(attempts[attempt], attempt.result())
            except IntegrityError:  # The endpoint was deleted while we waited, with all that was sent to it.
                continue


def _signed(delivery: WebhookDelivery) -> tuple[bytes, Mapping[str, str]]:
    """Return the body and the headers of an attempt."""
    body = delivery.message.body.encode()
    signatures = signature_headers(
        secrets_of(delivery.endpoint), message_id=public_id("msg", delivery.message.pk), timestamp=int(time.time()), body=body
    )
    return body, {**signatures, "Content-Type": "application/json", "User-Agent": "Farebox-Webhooks/1"}


@transaction.atomic
def _note(delivery: WebhookDelivery, answer: Answer) -> None:
    """Write what came of an attempt; the next one is due after the schedule's delay."""
    now, number = timezone.now(), delivery.attempts + 1
    WebhookAttempt.objects.create(delivery=delivery, number=number, status=answer.status, error=answer.error, took_ms=answer.took_ms)
    changes: dict[str, object] = {
        "attempts": number,
        "claimed_until": None,
        "last_status": answer.status,
        "last_error": answer.error or ("" if answer.is_delivered else f"It answered {answer.status}."),
    }
    if answer.is_delivered:
        changes |= {"state": WebhookDelivery.State.DELIVERED, "ended_at": now}
    elif number >= MAX_ATTEMPTS or answer.status == 410:
        changes |= {"state": WebhookDelivery.State.FAILED, "ended_at": now}
    else:
        delay_s = DELAYS_S[number - 1] * (1 + random.uniform(0, _JITTER))  # noqa: S311 (no secret)
        changes |= {"due_at": now + timedelta(seconds=delay_s)}
    # Only if it is pending: it may have been given up with its endpoint, or be resent, while we waited.
    WebhookDelivery.objects.filter(pk=delivery.pk, state=WebhookDelivery.State.PENDING, attempts=delivery.attempts).update(**changes)
    if answer.status == 410:
        disable_endpoint(delivery.endpoint, reason="It answered 410 Gone.", by="system")
    elif number >= MAX_ATTEMPTS and not answer.is_delivered and _is_dead(delivery.endpoint, delivery):
        disable_endpoint(delivery.endpoint, reason="Nothing could be delivered to it for three days.", by="system")


def _is_dead(endpoint: WebhookEndpoint, delivery: WebhookDelivery) -> bool:
    """Whether nothing has been delivered to an endpoint since a message was first tried that now has failed for good."""
    return not endpoint.deliveries.filter(state=WebhookDelivery.State.DELIVERED, ended_at__gt=delivery.created_at).exists()
