from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from marketplace.keys import revoke_key
from marketplace.models import ApiKey, Organization
from marketplace.tenants import suspend_organization

ORGANIZATION = "/v1/organization"


def code_of(reply: Any) -> tuple[int, str]:
    return reply.status_code, reply.json()["code"]


def test_a_call_without_a_key_is_told_how_to_send_one(client: Any, db: None) -> None:
    reply = client.get(ORGANIZATION)

    assert code_of(reply) == (401, "key_missing")
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="farebox"'
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.headers["Request-Id"] == reply.json()["request_id"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Basic abc", "key_malformed"),
        ("Bearer nonsense", "key_malformed"),
        ("Bearer ключ", "key_malformed"),
        ("Bearer fb_sk_live_" + "0" * 38, "key_mistyped"),
    ],
)
def test_garbage_is_told_apart_from_a_mistyped_key(client: Any, db: None, header: str, code: str) -> None:
    assert code_of(client.get(ORGANIZATION, headers={"authorization": header})) == (401, code)


def test_a_session_cookie_signs_nobody_in(client: Any, user: Any) -> None:
    client.force_login(user)

    assert code_of(client.get(ORGANIZATION)) == (401, "key_missing")


def test_a_revoked_key_fails_at_once(api: Any, key: ApiKey) -> None:
    assert api.get(ORGANIZATION).status_code == 200

    revoke_key(key, by="test")

    assert code_of(api.get(ORGANIZATION)) == (401, "key_revoked")


def test_an_expired_key_fails(api: Any, key: ApiKey) -> None:
    ApiKey.objects.filter(pk=key.pk).update(expires_at=datetime.now(UTC) - timedelta(seconds=1))

    assert code_of(api.get(ORGANIZATION)) == (401, "key_expired")


def test_a_suspended_organization_is_refused(api: Any, organization: Organization) -> None:
    suspend_organization(organization, reason="unpaid", by="test")

    assert code_of(api.get(ORGANIZATION)) == (403, "organization_suspended")


def test_a_key_works_from_its_networks_alone(make_api: Callable[..., Any]) -> None:
    assert make_api(allowed_cidrs=["127.0.0.0/8"]).get(ORGANIZATION).status_code == 200
    assert code_of(make_api(allowed_cidrs=["203.0.113.0/24"]).get(ORGANIZATION)) == (403, "address_not_allowed")


def test_nobody_but_a_trusted_proxy_says_where_a_call_comes_from(make_api: Callable[..., Any], settings: Any) -> None:
    api = make_api(allowed_cidrs=["203.0.113.0/24"])
    forwarded = {"x-forwarded-for": "203.0.113.9"}

    assert api.get(ORGANIZATION, **forwarded).status_code == 403
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    assert api.get(ORGANIZATION, **forwarded).status_code == 200
    # Only the entry that the proxy itself appended counts; a caller can write the others.
    assert api.get(ORGANIZATION, **{"x-forwarded-for": "203.0.113.9, 198.51.100.1"}).status_code == 403


def test_use_of_a_key_is_noted_once_a_minute(api: Any, key: ApiKey) -> None:
    api.get(ORGANIZATION)
    key.refresh_from_db()
    first = key.last_used_at
    api.get(ORGANIZATION)
    key.refresh_from_db()

    assert first is not None
    assert key.last_used_at == first


@pytest.mark.parametrize(
    ("asked", "path", "status"),
    [
        ({"kind": "mk"}, "/v1/keys", 200),
        ({"kind": "mk"}, "/v1/usage", 200),
        ({"kind": "rk", "scopes": ["usage:read"]}, "/v1/usage", 200),
        ({"kind": "rk", "scopes": ["usage:read"]}, "/v1/keys", 403),
        ({"kind": "rk", "scopes": ["predict"]}, "/v1/models", 403),
        ({"kind": "rk", "scopes": ["models:read"]}, "/v1/models", 200),
    ],
)
def test_a_key_does_what_its_kind_and_scopes_allow(make_api: Callable[..., Any], asked: dict[str, Any], path: str, status: int) -> None:
    reply = make_api(**asked).get(path)

    assert reply.status_code == status
    if status == 403:
        assert reply.json()["code"] == "scope_missing"
