"""The rules of webhook endpoints: register, change, rotate, switch, delete, try."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing.ids import parse_public_id, public_id
from marketplace import audit
from marketplace.errors import WebhookInvalid, WebhookLimitReached
from marketplace.models import ApiKey, Organization, User, WebhookDelivery, WebhookEndpoint, WebhookMessage
from marketplace.sealed import seal, unseal
from marketplace.webhooks.addresses import check_url
from marketplace.webhooks.outbox import EVENTS, TEST_EVENT, nudge, put_out
from marketplace.webhooks.signing import mint_secret

# How long the old secret signs beside the new one: receivers have a day to change over.
ROTATION_OVERLAP: Final = timedelta(hours=24)
_PURPOSE: Final = "webhook secrets"


@transaction.atomic
def register_endpoint(
    organization: Organization, *, url: str, events: Sequence[str], description: str, by: User | ApiKey | str
) -> tuple[WebhookEndpoint, str]:
    """Make an endpoint; return it with its secret, which is shown once.

    Raises:
        WebhookInvalid: nobody can be told there, or there is no such event. Nothing was made.
        WebhookLimitReached: there are as many as there may be. Nothing was made.
    """
    organization = Organization.objects.select_for_update().get(pk=organization.pk)  # One at a time: the limit is exact.
    limit = settings.MAX_WEBHOOK_ENDPOINTS
    if organization.webhook_endpoints.count() >= limit:
        raise WebhookLimitReached(limit=limit)
    secret = mint_secret()
    endpoint = organization.webhook_endpoints.create(
        url=_free_url(organization, url),
        events=_checked(events),
        description=description,
        secret=seal(secret, purpose=_PURPOSE),
    )
    audit.record(organization, action="webhook.registered", target=endpoint, by=by)
    return endpoint, secret


@transaction.atomic
def change_endpoint(
    endpoint: WebhookEndpoint,
    *,
    by: User | ApiKey,
    url: str | None = None,
    events: Sequence[str] | None = None,
    description: str | None = None,
) -> None:
    """Change what is given of an endpoint.

    Raises:
        WebhookInvalid: it cannot be so. Nothing was changed.
    """
    if url is not None and url != endpoint.url:
        endpoint.url = _free_url(endpoint.organization, url)
    if events is not None:
        endpoint.events = _checked(events)
    if description is not None:
        endpoint.description = description
    endpoint.save(update_fields=["url", "events", "description"])
    audit.record(endpoint.organization, action="webhook.changed", target=endpoint, by=by)


@transaction.atomic
def rotate_secret(endpoint: WebhookEndpoint, *, by: User | ApiKey | str) -> str:
    """Give an endpoint a new secret and return it; for a day both sign each message.

    A secret that was rotated out before, and still signed, stops at once: two sign, never three.
    """
    secret = mint_secret()
    endpoint.old_secret, endpoint.old_secret_until = endpoint.secret, timezone.now() + ROTATION_OVERLAP
    endpoint.secret = seal(secret, purpose=_PURPOSE)
    endpoint.save(update_fields=["secret", "old_secret", "old_secret_until"])
    audit.record(endpoint.organization, action="webhook.rotated", target=endpoint, by=by)
    return secret


@transaction.atomic
def enable_endpoint(endpoint: WebhookEndpoint, *, by: User | ApiKey | str) -> None:
    """Tell an endpoint of events again, from now on. What it missed can be sent again one by one."""
    endpoint.disabled_at, endpoint.disabled_reason = None, ""
    endpoint.save(update_fields=["disabled_at", "disabled_reason"])
    audit.record(endpoint.organization, action="webhook.enabled", target=endpoint, by=by)


@transaction.atomic
def disable_endpoint(endpoint: WebhookEndpoint, *, reason: str, by: User | ApiKey | str) -> None:
    """Tell an endpoint nothing more; what is on its way to it is given up. Twice changes nothing."""
    now = timezone.now()
    disabled = WebhookEndpoint.objects.filter(pk=endpoint.pk, disabled_at__isnull=True).update(
        disabled_at=now, disabled_reason=reason[:200]
    )
    if not disabled:
        return
    endpoint.refresh_from_db()
    endpoint.deliveries.filter(state=WebhookDelivery.State.PENDING).update(
        state=WebhookDelivery.State.FAILED, last_error="The endpoint was disabled.", ended_at=now
    )
    audit.record(endpoint.organization, action="webhook.disabled", target=endpoint, by=by, details={"reason": reason[:200]})


@transaction.atomic
def delete_endpoint(endpoint: WebhookEndpoint, *, by: User | ApiKey | str) -> None:
    """Delete an endpoint with its delivery log."""
    audit.record(endpoint.organization, action="webhook.deleted", target=endpoint, by=by)
    endpoint.delete()


@transaction.atomic
def send_test(endpoint: WebhookEndpoint) -> WebhookMessage:
    """Send an endpoint a message that means nothing, whatever it subscribes to.

    Raises:
        WebhookInvalid: it is disabled.
    """
    _check_enabled(endpoint)
    return put_out(endpoint.organization_id, TEST_EVENT, {"endpoint": public_id("whe", endpoint.pk)}, [endpoint])


@transaction.atomic
def resend(delivery: WebhookDelivery) -> None:
    """Send a message again, from the first attempt on, with the same id and body.

    Raises:
        WebhookInvalid: its endpoint is disabled.
    """
    _check_enabled(delivery.endpoint)
    WebhookDelivery.objects.filter(pk=delivery.pk).update(
        state=WebhookDelivery.State.PENDING, attempts=0, due_at=timezone.now(), claimed_until=None, ended_at=None
    )
    transaction.on_commit(nudge, robust=True)


def secrets_of(endpoint: WebhookEndpoint) -> list[str]:
    """Return what signs a message now: the secret, and for a day the one before it."""
    sealed = [endpoint.secret]
    if endpoint.old_secret and endpoint.old_secret_until and endpoint.old_secret_until > timezone.now():
        sealed.append(endpoint.old_secret)
    return [secret for text in sealed if (secret := unseal(text, purpose=_PURPOSE))]


def find_endpoint_id(organization_id: UUID, text: str) -> UUID:
    """Return the endpoint that a request names by its id or address, for what it asked for alone.

    An address must be registered: what is sent there is signed with its secret, and no request can
    make the site call somewhere new.

    Raises:
        WebhookInvalid: the organization has no such endpoint, or it is disabled.
    """
    pk = parse_public_id("whe", text)
    endpoints = WebhookEndpoint.objects.filter(organization_id=organization_id, disabled_at__isnull=True)
    found = endpoints.filter(pk=pk) if pk else endpoints.filter(url=text[:500])
    endpoint_id = found.values_list("pk", flat=True).first()
    if endpoint_id is None:
        message = "webhook names none of the organization's enabled endpoints. Register the address first: POST /v1/webhooks."
        raise WebhookInvalid(message, param="webhook")
    return endpoint_id


def _check_enabled(endpoint: WebhookEndpoint) -> None:
    if endpoint.disabled_at is not None:
        message = "The endpoint is disabled. Enable it first."
        raise WebhookInvalid(message, param="enabled")


def _free_url(organization: Organization, url: str) -> str:
    checked = check_url(url)
    if organization.webhook_endpoints.filter(url=checked).exists():
        message = "The organization has an endpoint with this address."
        raise WebhookInvalid(message)
    return checked


def _checked(events: Sequence[str]) -> list[str]:
    for event in events:
        if event != "*" and event not in EVENTS:
            message = f"There is no event {event[:40]!r}."
            raise WebhookInvalid(message, param="events")
    return ["*"] if "*" in events else sorted(set(events))
