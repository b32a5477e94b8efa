from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from billing.ids import public_id
from billing.models import Budget
from billing.periods import month_of
from marketplace.credentials import digest
from marketplace.keys import revoke_key
from marketplace.models import ApiKey, AuditEvent, ModelVersion


def _path(key: ApiKey, deed: str = "") -> str:
    return f"/keys/{public_id('key', key.pk)}/{deed}"


def _create(client: Client, **fields: Any) -> Any:
    return client.post("/keys/new/", {"name": "worker", "mode": "live", "kind": "sk", **fields}, follow=True)


def test_a_new_key_is_shown_once(member: Client) -> None:
    reply = _create(member)

    key = ApiKey.objects.get(name="worker")
    secret = reply.context["secret"]
    assert digest(secret) == key.digest
    assert secret in reply.content.decode()
    assert secret not in member.get(_path(key)).content.decode()


def test_a_key_gets_the_limits_of_the_form(member: Client, sentiment: ModelVersion) -> None:
    tomorrow = timezone.now().date() + timedelta(days=1)
    _create(
        member,
        kind="rk",
        mode="test",
        scopes=["predict", "usage:read"],
        monthly_cap="$12.50",
        expires_on=tomorrow.isoformat(),
        rate_per_minute="30",
        allowed_models=["farebox/sentiment"],
        allowed_cidrs="203.0.113.7/24\n2001:db8::/32",
    )

    key = ApiKey.objects.get(name="worker")
    assert (key.kind, key.livemode, key.scopes) == ("rk", False, ["predict", "usage:read"])
    assert (key.monthly_cap_nanos, key.rate_per_minute) == (12_500_000_000, 30)
    assert key.allowed_models == ["farebox/sentiment"]
    assert key.allowed_cidrs == ["203.0.113.0/24", "2001:db8::/32"]
    assert key.expires_at
    assert key.expires_at.date() == tomorrow + timedelta(days=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("monthly_cap", "twelve"),
        ("monthly_cap", "-1"),
        ("expires_on", "2020-01-01"),
        ("rate_per_minute", "0"),
        ("allowed_models", ["other/private"]),
        ("allowed_cidrs", "somewhere"),
        ("kind", "rk"),
    ],
)
def test_what_cannot_be_is_said_at_its_field_and_makes_no_key(member: Client, field: str, value: object) -> None:
    reply = _create(member, **{field: value})

    assert reply.status_code == 422
    assert 'class="errorlist"' in reply.content.decode()
    assert not ApiKey.objects.exists()


def test_one_key_too_many_is_refused(member: Client, key: ApiKey, settings: Any) -> None:
    settings.MAX_KEYS = 1

    assert _create(member).status_code == 422
    assert ApiKey.objects.count() == 1


def test_the_cap_is_set_and_lifted_with_an_audit_row(member: Client, key: ApiKey) -> None:
    member.post(_path(key, "cap/"), {"monthly_cap": "3"})
    key.refresh_from_db()
    assert key.monthly_cap_nanos == 3_000_000_000

    member.post(_path(key, "cap/"), {"monthly_cap": ""})
    key.refresh_from_db()
    assert key.monthly_cap_nanos is None
    assert AuditEvent.objects.filter(action="key.cap_set", by="ada@example.com").count() == 2


def test_a_bad_cap_changes_nothing(member: Client, key: ApiKey) -> None:
    reply = member.post(_path(key, "cap/"), {"monthly_cap": "lots"})

    key.refresh_from_db()
    assert (reply.status_code, key.monthly_cap_nanos) == (422, None)


def test_the_page_shows_how_much_of_the_cap_is_spent(member: Client, key: ApiKey) -> None:
    member.post(_path(key, "cap/"), {"monthly_cap": "2"})
    Budget.objects.create(
        account=key.organization.account,
        subject=key.budget_subject,
        interval="month",
        starts_at=month_of(timezone.now())[0],
        limit_nanos=2_000_000_000,
        spent_nanos=500_000_000,
    )

    page = member.get(_path(key)).content.decode()

    assert "$0.50 of $2.00 spent" in page
    assert '<rect width="25.0"' in page


def test_rotating_shows_the_new_secret_and_leaves_the_old_key_its_grace(member: Client, key: ApiKey) -> None:
    reply = member.post(_path(key, "rotate/"), {"grace": "1h"}, follow=True)

    key.refresh_from_db()
    fresh = ApiKey.objects.exclude(pk=key.pk).get()
    assert digest(reply.context["secret"]) == fresh.digest
    assert key.expires_at
    assert timedelta(minutes=59) < key.expires_at - timezone.now() <= timedelta(hours=1)


def test_a_revoked_key_is_not_rotated(member: Client, key: ApiKey) -> None:
    revoke_key(key, by="test")

    reply = member.post(_path(key, "rotate/"), {"grace": "0"}, follow=True)

    assert "cannot be rotated" in reply.content.decode()
    assert ApiKey.objects.count() == 1


def test_rotating_with_a_grace_needs_room_for_one_more_key(member: Client, key: ApiKey, settings: Any) -> None:
    settings.MAX_KEYS = 1

    reply = member.post(_path(key, "rotate/"), {"grace": "7d"}, follow=True)

    key.refresh_from_db()
    assert "already hold 1 live keys" in reply.content.decode()
    assert (ApiKey.objects.count(), key.expires_at, key.revoked_at) == (1, None, None)


def test_rotating_at_once_needs_no_room(member: Client, key: ApiKey, settings: Any) -> None:
    settings.MAX_KEYS = 1

    member.post(_path(key, "rotate/"), {"grace": "0"})

    assert [live.pk == key.pk for live in ApiKey.objects.all() if live.revoked_at is None] == [False]


def test_revoking_asks_first(member: Client, key: ApiKey) -> None:
    assert member.get(_path(key, "revoke/")).status_code == 200
    key.refresh_from_db()
    assert key.revoked_at is None

    member.post(_path(key, "revoke/"))

    key.refresh_from_db()
    assert key.revoked_at is not None
    assert "1 key that has ended" in member.get("/keys/").content.decode()


def test_a_form_without_its_token_is_refused(user: Any, key: ApiKey) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)

    reply = strict.post(_path(key, "revoke/"))

    key.refresh_from_db()
    assert (reply.status_code, key.revoked_at) == (403, None)
    assert "form has expired" in reply.content.decode()
