from typing import Any

import pytest

from marketplace.models import Organization, WebhookDelivery, WebhookEndpoint
from marketplace.webhooks.endpoints import secrets_of

URL = "https://hooks.example/farebox"


def made(api: Any, **fields: Any) -> Any:
    reply = api.post("/v1/webhooks", {"url": URL, **fields})
    assert reply.status_code == 201, reply.content
    return reply.json()


def test_a_secret_is_shown_when_it_is_made_and_never_again(api: Any) -> None:
    endpoint = made(api)

    assert secrets_of(WebhookEndpoint.objects.get()) == [endpoint["secret"]]
    for path in ("/v1/webhooks", f"/v1/webhooks/{endpoint['id']}"):
        assert endpoint["secret"] not in api.get(path).content.decode()


def test_rotating_shows_the_new_secret_and_until_when_the_old_one_signs(api: Any) -> None:
    endpoint = made(api)

    rotated = api.post(f"/v1/webhooks/{endpoint['id']}/rotate").json()

    assert rotated["secret"] != endpoint["secret"]
    assert rotated["old_secret_until"] is not None
    assert secrets_of(WebhookEndpoint.objects.get()) == [rotated["secret"], endpoint["secret"]]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"url": "http://hooks.example/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://hooks.example/", "events": ["nothing.happened"]}, "events"),
    ],
)
def test_what_cannot_be_told_is_refused_and_nothing_is_made(api: Any, fields: Any, param: str) -> None:
    reply = api.post("/v1/webhooks", fields)

    assert (reply.status_code, reply.json()["code"], reply.json()["errors"][0]["param"]) == (422, "webhook_invalid", param)
    assert not WebhookEndpoint.objects.exists()


def test_an_address_is_registered_once(api: Any) -> None:
    made(api)

    assert api.post("/v1/webhooks", {"url": URL}).json()["code"] == "webhook_invalid"
    assert WebhookEndpoint.objects.count() == 1


def test_no_more_endpoints_than_allowed(api: Any, settings: Any) -> None:
    settings.MAX_WEBHOOK_ENDPOINTS = 1
    made(api)

    reply = api.post("/v1/webhooks", {"url": URL + "/2"})

    assert (reply.status_code, reply.json()["code"]) == (409, "webhook_limit_reached")
    assert WebhookEndpoint.objects.count() == 1


def test_a_test_event_goes_into_the_delivery_log_and_can_be_sent_again(api: Any) -> None:
    endpoint = made(api, events=[])

    delivery = api.post(f"/v1/webhooks/{endpoint['id']}/test").json()
    WebhookDelivery.objects.update(state="failed", attempts=10, last_status=500)
    again = api.post(f"/v1/webhooks/{endpoint['id']}/deliveries/{delivery['id']}/resend").json()
    listed = api.get(f"/v1/webhooks/{endpoint['id']}/deliveries").json()["data"]

    assert (delivery["type"], delivery["state"]) == ("webhook.test", "pending")
    assert (again["state"], again["attempts"], again["message"]) == ("pending", 0, delivery["message"])
    assert [row["id"] for row in listed] == [delivery["id"]]


def test_a_disabled_endpoint_is_sent_nothing_until_it_is_enabled(api: Any) -> None:
    endpoint = made(api)

    off = api.patch(f"/v1/webhooks/{endpoint['id']}", {"enabled": False}).json()
    refused = api.post(f"/v1/webhooks/{endpoint['id']}/test")
    on = api.patch(f"/v1/webhooks/{endpoint['id']}", {"enabled": True}).json()

    assert (off["enabled"], refused.json()["code"], on["enabled"]) == (False, "webhook_invalid", True)
    assert not WebhookDelivery.objects.exists()


def test_deleting_takes_the_log_along(api: Any) -> None:
    endpoint = made(api)
    api.post(f"/v1/webhooks/{endpoint['id']}/test")

    assert api.delete(f"/v1/webhooks/{endpoint['id']}").status_code == 204
    assert not WebhookDelivery.objects.exists()


def test_a_restricted_key_needs_the_scope(make_api: Any, organization: Organization) -> None:
    reader = make_api(kind="rk", scopes=["webhooks:read"])

    assert reader.get("/v1/webhooks").status_code == 200
    assert reader.post("/v1/webhooks", {"url": URL}).json()["code"] == "scope_missing"
    assert not WebhookEndpoint.objects.exists()
