"""From the committed row to the receiver, and what is done about receivers that fail."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing.ids import public_id
from marketplace.models import AuditEvent, Organization, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from marketplace.webhooks import delivering, emit, endpoints
from marketplace.webhooks.delivering import DELAYS_S, MAX_ATTEMPTS, deliver_due
from marketplace.webhooks.signing import sign
from tests.marketplace.webhooks.receiver import Receiver, receiver

DATA = {"object": "batch", "id": "bat_1"}


@pytest.fixture(autouse=True)
def _to_loopback(settings: Any) -> None:
    settings.WEBHOOKS_TO_LOOPBACK = True


@pytest.fixture
def told() -> Iterator[Receiver]:
    with receiver() as listening:
        yield listening


def register(organization: Organization, url: str, *events: str) -> tuple[WebhookEndpoint, str]:
    return endpoints.register_endpoint(organization, url=url, events=events or ["*"], description="", by="test")


def make_due() -> None:
    WebhookDelivery.objects.update(due_at=timezone.now())


def test_an_event_arrives_signed_and_once(organization: Organization, told: Receiver) -> None:
    _, secret = register(organization, told.url)
    message = emit(organization, "batch.completed", DATA)
    assert message is not None

    assert [deliver_due(), deliver_due()] == [1, 0]

    ((headers, body),) = told.received
    content = json.loads(body)
    assert (content["type"], content["data"]) == ("batch.completed", DATA)
    assert datetime.fromisoformat(content["timestamp"]).tzinfo is not None
    assert headers["webhook-id"] == public_id("msg", message.pk)
    expected = sign(secret, message_id=headers["webhook-id"], timestamp=int(headers["webhook-timestamp"]), body=body)
    assert headers["webhook-signature"] == expected
    assert WebhookDelivery.objects.get().state == "delivered"


def test_only_who_subscribes_or_is_named_is_told(organization: Organization, other_organization: Organization, told: Receiver) -> None:
    register(organization, told.url + "/all")
    register(organization, told.url + "/keys", "key.expiring")
    silent, _ = register(organization, told.url + "/silent", "key.expiring")
    register(other_organization, told.url + "/other")

    emit(organization, "batch.completed", DATA, also=[silent.pk])

    assert set(WebhookDelivery.objects.values_list("endpoint__url", flat=True)) == {told.url + "/all", told.url + "/silent"}


def test_nothing_is_written_where_nobody_listens(organization: Organization) -> None:
    assert emit(organization, "batch.completed", DATA) is None


def test_an_event_that_is_none_or_too_large_is_our_mistake(organization: Organization, told: Receiver) -> None:
    register(organization, told.url)

    with pytest.raises(ValueError, match="no event"):
        emit(organization, "batch.exploded", DATA)
    with pytest.raises(ValueError, match="20000"):
        emit(organization, "batch.completed", {"text": "x" * 20_000})
    assert not WebhookDelivery.objects.exists()


def test_a_failure_is_tried_again_after_the_schedules_delays_with_the_same_id(organization: Organization, told: Receiver) -> None:
    told.status = 500
    register(organization, told.url)
    emit(organization, "batch.completed", DATA)
    delays = []
    for _ in range(MAX_ATTEMPTS):
        make_due()
        assert deliver_due() == 1
        row = WebhookDelivery.objects.get()
        delays.append((row.due_at - timezone.now()).total_seconds())

    for delay, expected in zip(delays[:-1], DELAYS_S, strict=True):
        assert expected - 1 < delay <= expected * 1.2 + 1
    make_due()
    assert deliver_due() == 0
    assert (row.state, row.attempts, row.last_status) == ("failed", 10, 500)
    assert len({headers["webhook-id"] for headers, _ in told.received}) == 1
    assert len({body for _, body in told.received}) == 1
    assert list(WebhookAttempt.objects.order_by("number").values_list("number", "status")) == [(n, 500) for n in range(1, 11)]


def test_an_endpoint_that_took_nothing_for_the_whole_schedule_is_disabled(organization: Organization, told: Receiver) -> None:
    told.status = 500
    endpoint, _ = register(organization, told.url)
    emit(organization, "batch.completed", DATA)
    WebhookDelivery.objects.update(attempts=MAX_ATTEMPTS - 1)

    deliver_due()

    endpoint.refresh_from_db()
    assert endpoint.disabled_at is not None
    assert AuditEvent.objects.filter(action="webhook.disabled", by="system").count() == 1
    assert emit(organization, "batch.completed", DATA) is None


def test_410_disables_at_once_and_gives_up_what_waits(organization: Organization, told: Receiver) -> None:
    told.status = 410
    endpoint, _ = register(organization, told.url)
    emit(organization, "batch.completed", DATA)
    waiting = emit(organization, "batch.completed", DATA)
    assert waiting is not None
    WebhookDelivery.objects.filter(message=waiting).update(due_at=timezone.now() + timedelta(hours=1))

    deliver_due()

    endpoint.refresh_from_db()
    assert endpoint.disabled_reason == "It answered 410 Gone."
    assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {"failed"}
    make_due()
    assert deliver_due() == 0
    assert len(told.received) == 1


def test_after_a_rotation_both_secrets_sign_for_a_day(organization: Organization, told: Receiver) -> None:
    endpoint, old = register(organization, told.url)
    new = endpoints.rotate_secret(endpoint, by="test")
    emit(organization, "batch.completed", DATA)
    deliver_due()
    WebhookEndpoint.objects.update(old_secret_until=timezone.now() - timedelta(seconds=1))
    emit(organization, "batch.completed", DATA)
    deliver_due()

    signatures = []
    for headers, body in told.received:
        made = [
            sign(secret, message_id=headers["webhook-id"], timestamp=int(headers["webhook-timestamp"]), body=body) for secret in (new, old)
        ]
        signatures.append([headers["webhook-signature"] == " ".join(made), headers["webhook-signature"] == made[0]])
    assert signatures == [[True, False], [False, True]]


def test_what_a_dead_deliverer_claimed_is_delivered_when_its_claim_ends(organization: Organization, told: Receiver) -> None:
    register(organization, told.url)
    emit(organization, "batch.completed", DATA)
    WebhookDelivery.objects.update(claimed_until=timezone.now() + timedelta(seconds=30))
    assert deliver_due() == 0

    WebhookDelivery.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    assert deliver_due() == 1


def test_a_message_is_sent_again_on_request(organization: Organization, told: Receiver) -> None:
    register(organization, told.url)
    emit(organization, "batch.completed", DATA)
    deliver_due()

    endpoints.resend(WebhookDelivery.objects.get())
    deliver_due()

    assert len(told.received) == 2
    assert len({headers["webhook-id"] for headers, _ in told.received}) == 1


def test_one_endpoint_does_not_take_all_the_threads(organization: Organization, told: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    register(organization, told.url)
    register(organization, told.url + "/second", "key.expiring")
    for _ in range(10):
        emit(organization, "batch.completed", DATA)
    emit(organization, "key.expiring", DATA)

    claimed = delivering._claim_due()

    per_url = [delivery.endpoint.url for delivery in claimed]
    assert per_url.count(told.url) == delivering._PER_ENDPOINT
    assert per_url.count(told.url + "/second") == 1


def test_the_secret_does_not_lie_readable_in_the_database(organization: Organization) -> None:
    endpoint, secret = register(organization, "https://hooks.example/")

    row = repr(WebhookEndpoint.objects.values().get(pk=endpoint.pk))
    assert secret not in row
    assert secret.removeprefix("whsec_") not in row
    assert endpoints.secrets_of(endpoint) == [secret]
