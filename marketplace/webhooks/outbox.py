"""What there is to tell: rows written with the change they tell of. Delivering them is another matter."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from celery import current_app
from django.db import transaction
from django.utils import timezone

from billing.periods import render_moment
from marketplace.models import Organization, WebhookDelivery, WebhookEndpoint, WebhookMessage

# Every event there is; endpoints subscribe to some or to all.
EVENTS: Final = (
    "prediction.succeeded",
    "prediction.failed",
    "batch.completed",
    "budget.threshold",
    "budget.exhausted",
    "invoice.finalized",
    "invoice.paid",
    "invoice.payment_failed",
    "key.expiring",
    "subscription.created",
    "subscription.unpaid",
    "subscription.ended",
    "version.published",
    "version.retired",
)
TEST_EVENT: Final = "webhook.test"
# Standard Webhooks: receivers may refuse more.
MAX_BODY_BYTES: Final = 20_000
DELIVER_TASK: Final = "marketplace.tasks.deliver_webhooks"


@transaction.atomic
def emit(
    organization: Organization | UUID,
    type: str,  # noqa: A002 (the field's word)
    data: Mapping[str, Any],
    *,
    also: Iterable[UUID] = (),
) -> WebhookMessage | None:
    """Tell an organization's endpoints that something happened; call it in the transaction in which it happens.

    Args:
        organization: Whom it concerns.
        type: One of `EVENTS`.
        data: JSON: ids, states and amounts as the REST API shows them, never inputs or outputs.
        also: Endpoints that are told though they do not subscribe to the type.

    Returns:
        The message, or None where no endpoint wants it.

    Raises:
        ValueError: there is no such event, or the body would have 20 kB or more. A mistake of ours.
    """
    if type not in EVENTS:
        message = f"There is no event {type!r}."
        raise ValueError(message)
    organization_id = organization if isinstance(organization, UUID) else organization.pk
    wanted = set(also)
    endpoints = [
        endpoint
        for endpoint in WebhookEndpoint.objects.filter(organization_id=organization_id, disabled_at__isnull=True)
        if endpoint.pk in wanted or subscribes(endpoint, type)
    ]
    return put_out(organization_id, type, data, endpoints) if endpoints else None


def subscribes(endpoint: WebhookEndpoint, event: str) -> bool:
    """Whether an endpoint is told of every event of a type."""
    return "*" in endpoint.events or event in endpoint.events


def put_out(organization_id: UUID, event: str, data: Mapping[str, Any], endpoints: Iterable[WebhookEndpoint]) -> WebhookMessage:
    """Write a message and its deliveries, due now; nudge Celery once they are committed."""
    now = timezone.now()
    body = json.dumps({"type": event, "timestamp": render_moment(now), "data": data}, separators=(",", ":"), ensure_ascii=False)
    if len(body.encode()) >= MAX_BODY_BYTES:
        message = f"The {event} has {len(body.encode())} bytes; a webhook has less than {MAX_BODY_BYTES}."
        raise ValueError(message)
    written = WebhookMessage.objects.create(organization_id=organization_id, type=event, body=body)
    WebhookDelivery.objects.bulk_create([WebhookDelivery(message=written, endpoint=endpoint, due_at=now) for endpoint in endpoints])
    transaction.on_commit(nudge, robust=True)
    return written


def nudge() -> None:
    """Have deliveries made now rather than at the next sweep."""
    current_app.send_task(DELIVER_TASK, expires=60)
