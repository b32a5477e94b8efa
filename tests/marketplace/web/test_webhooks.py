import pytest
from django.test import Client

from marketplace.models import Organization, WebhookDelivery, WebhookEndpoint
from marketplace.webhooks.endpoints import secrets_of


@pytest.fixture
def page(member: Client, organization: Organization) -> str:
    """The page of an endpoint that was just made."""
    return str(member.post("/webhooks/new/", {"url": "https://hooks.example/a", "events": ["key.expiring"]})["Location"])


def test_the_secret_is_shown_once(member: Client, page: str) -> None:
    (secret,) = secrets_of(WebhookEndpoint.objects.get())

    assert secret in member.get(page).content.decode()
    assert secret not in member.get(page).content.decode()


def test_rotating_shows_the_new_secret_once(member: Client, page: str) -> None:
    member.get(page)

    shown = member.post(page + "rotate/", follow=True).content.decode()

    new, old = secrets_of(WebhookEndpoint.objects.get())
    assert new in shown
    assert old not in shown


@pytest.mark.parametrize("url", ["http://hooks.example/", "https://127.0.0.1/", "nonsense", ""])
def test_an_address_that_cannot_be_told_is_refused_in_the_form(member: Client, url: str) -> None:
    reply = member.post("/webhooks/new/", {"url": url})

    assert reply.status_code == 422
    assert not WebhookEndpoint.objects.exists()


def test_a_test_event_is_in_the_log_and_can_be_sent_again(member: Client, page: str) -> None:
    member.post(page + "test/")
    delivery = WebhookDelivery.objects.get()
    WebhookDelivery.objects.update(state="failed", attempts=10, last_status=500)
    log = member.get(page + "deliveries/")

    member.post(log.content.decode().split('method="post" action="')[1].split('"')[0])

    delivery.refresh_from_db()
    assert "webhook.test" in log.content.decode()
    assert (delivery.state, delivery.attempts) == ("pending", 0)


def test_an_endpoint_is_switched_off_and_on_and_deleted(member: Client, page: str) -> None:
    member.post(page + "switch/")
    assert WebhookEndpoint.objects.get().disabled_at is not None
    assert "disabled" in member.post(page + "test/", follow=True).content.decode()
    assert not WebhookDelivery.objects.exists()

    member.post(page + "switch/")
    assert WebhookEndpoint.objects.get().disabled_at is None

    assert "cannot be undone" in member.get(page + "delete/").content.decode()
    member.post(page + "delete/")
    assert not WebhookEndpoint.objects.exists()
