from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.ids import public_id
from billing.models import Account
from marketplace.api.fields import Amount
from marketplace.credentials import digest
from marketplace.errors import ScopeMissing
from marketplace.keys import KeySettings, issue_key, set_monthly_cap
from marketplace.models import ApiKey, AuditEvent, ControlChange, RequestLog

KEYS = "/v1/keys"


def path_of(key: ApiKey, action: str = "") -> str:
    return f"{KEYS}/{public_id('key', key.pk)}{action}"


def test_a_made_key_shows_its_secret_once(api: Any, make_api: Callable[..., Any]) -> None:
    made = api.post(KEYS, {"name": "Batch", "monthly_cap": "12.50", "allowed_models": ["farebox/sentiment"]})

    assert made.status_code == 201
    fields = made.json()
    assert digest(fields["secret"]) == ApiKey.objects.get(name="Batch").digest
    assert (fields["monthly_cap"], fields["currency"], fields["livemode"]) == ("12.500000000", "usd", True)
    shown = api.get(f"{KEYS}/{fields['id']}")
    assert shown.json() == {name: value for name, value in fields.items() if name != "secret"}
    assert fields["secret"] not in api.get(KEYS).content.decode()


def test_no_answer_ever_holds_a_digest(api: Any, key: ApiKey) -> None:
    for reply in (api.get(KEYS), api.get(path_of(key)), api.patch(path_of(key), {"name": "Other"})):
        assert key.digest not in reply.content.decode()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": 5}, "name"),
        ({"name": "a", "digest": "0"}, "digest"),
        ({"name": "a", "organization": "other"}, "organization"),
        ({"name": "a", "livemode": "yes"}, "livemode"),
        ({"name": "a", "monthly_cap": 12.5}, "monthly_cap"),
        ({"name": "a", "monthly_cap": "-1"}, "monthly_cap"),
        ({"name": "a", "monthly_cap": "1e3"}, "monthly_cap"),
        ({"name": "a", "kind": "xx"}, "kind"),
        ({"name": "a", "rate_per_minute": "5"}, "rate_per_minute"),
        ({"name": "a", "rate_per_minute": True}, "rate_per_minute"),
        ({"name": "a", "expires_at": "2030-01-01T00:00:00"}, "expires_at"),
        ({"name": "a", "scopes": ["predict", 5]}, "scopes[1]"),
        ({"name": "a" * 81}, "name"),
    ],
)
def test_a_malformed_key_is_refused_by_name_and_not_made(api: Any, body: dict[str, Any], param: str) -> None:
    before = ApiKey.objects.count()

    reply = api.post(KEYS, body)

    assert (reply.status_code, reply.json()["code"]) == (400, "request_malformed")
    assert reply.json()["errors"][0]["param"] == param
    assert ApiKey.objects.count() == before


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"kind": "rk"}, "scopes"),
        ({"kind": "rk", "scopes": ["everything"]}, "scopes"),
        ({"scopes": ["predict"]}, "scopes"),
        ({"allowed_cidrs": ["10.0.0.1/8"]}, "allowed_cidrs"),
        ({"allowed_cidrs": ["garbage"]}, "allowed_cidrs"),
        ({"allowed_models": ["nonsense"]}, "allowed_models"),
    ],
)
def test_settings_that_no_key_can_have_are_refused(api: Any, body: dict[str, Any], param: str) -> None:
    reply = api.post(KEYS, {"name": "a", **body})

    assert (reply.status_code, reply.json()["code"]) == (422, "key_setting_invalid")
    assert reply.json()["errors"][0]["param"] == param


def test_a_key_cannot_be_made_expired(api: Any) -> None:
    reply = api.post(KEYS, {"name": "a", "expires_at": "2020-01-01T00:00:00Z"})

    assert (reply.status_code, reply.json()["code"]) == (422, "key_expiry_in_past")


WRITER = {"kind": "rk", "scopes": ["keys:write", "usage:read"]}


@pytest.mark.parametrize(
    ("maker", "body"),
    [
        (WRITER, {}),  # No secret key from a restricted one.
        (WRITER, {"kind": "mk"}),
        (WRITER, {"kind": "rk", "scopes": ["predict"]}),
        ({"kind": "mk"}, {}),
        ({"kind": "mk"}, {"kind": "rk", "scopes": ["predict"]}),
        ({"livemode": False}, {"livemode": True}),
        ({"allowed_models": ["a/b"]}, {}),
        ({"allowed_models": ["a/b"]}, {"allowed_models": ["a/b", "a/c"]}),
        ({"allowed_cidrs": ["127.0.0.0/8"]}, {}),
        ({"allowed_cidrs": ["127.0.0.0/8"]}, {"allowed_cidrs": ["0.0.0.0/0"]}),
        ({"allowed_cidrs": ["127.0.0.0/8"]}, {"allowed_cidrs": ["::/0"]}),
        ({"rate_per_minute": 10}, {}),
        ({"rate_per_minute": 10}, {"rate_per_minute": 11}),
        ({"monthly_cap_nanos": 1}, {"monthly_cap": "0.000000001"}),
        ({"expires_at": datetime.now(UTC) + timedelta(days=1)}, {}),
    ],
)
def test_no_key_hands_on_more_than_it_has(make_api: Callable[..., Any], maker: dict[str, Any], body: dict[str, Any]) -> None:
    api = make_api(**maker)
    before = ApiKey.objects.count()

    reply = api.post(KEYS, {"name": "a", **body})

    assert (reply.status_code, reply.json()["code"]) == (403, "scope_missing")
    assert ApiKey.objects.count() == before


@pytest.mark.parametrize(
    ("maker", "body"),
    [
        (WRITER, {"kind": "rk", "scopes": ["usage:read"]}),
        ({"kind": "mk"}, {"kind": "mk"}),
        ({"livemode": False}, {"livemode": False}),
        ({"allowed_cidrs": ["127.0.0.0/8"]}, {"allowed_cidrs": ["127.0.0.1/32"]}),
        ({"rate_per_minute": 10}, {"rate_per_minute": 10}),
        ({"monthly_cap_nanos": 1}, {"kind": "mk"}),
        ({}, {"kind": "rk", "scopes": ["predict"]}),
    ],
)
def test_a_key_hands_on_what_it_has(make_api: Callable[..., Any], maker: dict[str, Any], body: dict[str, Any]) -> None:
    assert make_api(**maker).post(KEYS, {"name": "a", **body}).status_code == 201


def test_a_restricted_key_cannot_learn_a_stronger_one_by_rotating_it(make_api: Callable[..., Any], key: ApiKey) -> None:
    reply = make_api(**WRITER).post(path_of(key, "/rotate"))

    assert (reply.status_code, reply.json()["code"]) == (403, "scope_missing")
    key.refresh_from_db()
    assert key.revoked_at is None


def test_a_capped_key_may_lower_caps_but_not_lift_them(make_api: Callable[..., Any], key: ApiKey) -> None:
    api = make_api(monthly_cap_nanos=10**9)

    assert api.patch(path_of(key), {"monthly_cap": "5"}).status_code == 200
    assert api.patch(path_of(key), {"monthly_cap": "6"}).status_code == 403
    assert api.patch(path_of(key), {"monthly_cap": None}).status_code == 403
    key.refresh_from_db()
    assert key.monthly_cap_nanos == 5 * 10**9


def test_the_limit_on_live_keys_holds(api: Any, settings: Any) -> None:
    settings.MAX_KEYS = 1

    reply = api.post(KEYS, {"name": "One more"})

    assert (reply.status_code, reply.json()["code"]) == (409, "key_limit_reached")


def test_no_number_of_rotations_with_a_grace_exceeds_the_limit(make_api: Callable[..., Any], organization: Any, settings: Any) -> None:
    settings.MAX_KEYS = 3
    api = make_api()
    path = path_of(ApiKey.objects.get(name="Made"), "/rotate")

    replies = [api.post(path, {"grace": "7d"}) for _ in range(4)]

    assert [reply.status_code for reply in replies] == [201, 201, 409, 409]
    assert replies[-1].json()["code"] == "key_limit_reached"
    assert organization.keys.live().count() == 3


@pytest.mark.parametrize(
    "maker",
    [
        WRITER,  # It could not spend itself.
        {"kind": "mk"},
        {"kind": "rk", "scopes": ["keys:write", "predict"]},
        {"allowed_models": ["farebox/sentiment"]},
        {"allowed_cidrs": ["127.0.0.0/8"]},
    ],
)
@pytest.mark.parametrize("cap", ["6", None])
def test_a_key_with_fewer_rights_lifts_no_cap(make_api: Callable[..., Any], key: ApiKey, maker: dict[str, Any], cap: str | None) -> None:
    ApiKey.objects.filter(pk=key.pk).update(monthly_cap_nanos=5 * 10**9)
    api = make_api(**maker)

    reply = api.patch(path_of(key), {"monthly_cap": cap})

    key.refresh_from_db()
    assert (reply.status_code, reply.json()["code"]) == (403, "scope_missing")
    assert key.monthly_cap_nanos == 5 * 10**9
    assert not AuditEvent.objects.filter(action="key.cap_set").exists()
    assert api.patch(path_of(key), {"monthly_cap": "4"}).status_code == 200  # Lower it may.


def test_a_key_with_all_rights_of_another_raises_its_cap(make_api: Callable[..., Any], organization: Any) -> None:
    asked = {"kind": ApiKey.Kind.RESTRICTED, "scopes": ["predict"], "monthly_cap_nanos": 1}
    narrow = issue_key(organization=organization, name="Narrow", settings=KeySettings(**asked), by="test")[0]
    api = make_api(kind="rk", scopes=["keys:write", "predict"])

    assert api.patch(path_of(narrow), {"monthly_cap": "6"}).status_code == 200


def test_lowering_a_cap_that_was_lowered_meanwhile_does_not_raise_it(make_api: Callable[..., Any], key: ApiKey) -> None:
    make_api(**WRITER)
    writer = ApiKey.objects.get(name="Made")
    key.monthly_cap_nanos = 10**10  # As the writer read it.
    ApiKey.objects.filter(pk=key.pk).update(monthly_cap_nanos=10**9)

    with pytest.raises(ScopeMissing):
        set_monthly_cap(key, cap_nanos=9 * 10**9, by=writer)

    key.refresh_from_db()
    assert key.monthly_cap_nanos == 10**9


def test_a_key_is_renamed_and_capped_on_the_record(make_api: Callable[..., Any], key: ApiKey) -> None:
    api = make_api()
    by = f"key:{ApiKey.objects.get(name='Made').pk}"

    reply = api.patch(path_of(key), {"name": "Nightly", "monthly_cap": "3"})

    assert (reply.json()["name"], reply.json()["monthly_cap"]) == ("Nightly", "3.000000000")
    assert list(AuditEvent.objects.values_list("action", "by")[:2]) == [("key.cap_set", by), ("key.renamed", by)]
    assert api.patch(path_of(key), {"monthly_cap": None}).json()["monthly_cap"] is None


def test_a_patch_with_every_column_changes_nothing_it_should_not(api: Any, key: ApiKey) -> None:
    before = ApiKey.objects.filter(pk=key.pk).values().get()

    for column in before:
        if column != "name":
            assert api.patch(path_of(key), {column: "x"}).status_code == 400
    assert api.patch(path_of(key), dict.fromkeys(before, "x")).status_code == 400

    after = ApiKey.objects.filter(pk=key.pk).values().get()
    assert {**after, "last_used_at": None} == {**before, "last_used_at": None}


def test_revoking_twice_is_revoking_once(api: Any, make_api: Callable[..., Any], key: ApiKey) -> None:
    other = make_api()

    first, second = other.delete(path_of(key)), other.delete(path_of(key))

    assert first.json()["revoked_at"] == second.json()["revoked_at"] is not None
    assert ControlChange.objects.filter(reference=key.digest).exists()
    assert api.get(KEYS).status_code == 401


@pytest.mark.parametrize(("grace", "status"), [("0", 401), ("1h", 200)])
def test_a_rotated_key_lives_as_long_as_its_grace(api: Any, key: ApiKey, grace: str, status: int) -> None:
    fresh = api.post(path_of(key, "/rotate"), {"grace": grace})

    assert fresh.status_code == 201
    assert fresh.json()["name"] == key.name
    assert api.get(KEYS).status_code == status


def test_a_dead_key_cannot_be_rotated(make_api: Callable[..., Any], key: ApiKey) -> None:
    api = make_api()
    api.delete(path_of(key))

    reply = api.post(path_of(key, "/rotate"))

    assert (reply.status_code, reply.json()["code"]) == (409, "key_not_live")


def test_whoever_finds_a_key_can_end_it(client: Any, api: Any, live_key: str) -> None:
    reply = client.post("/v1/keys/revoke", {"key": live_key}, content_type="application/json")

    assert (reply.status_code, reply.content) == (204, b"")
    assert api.get(KEYS).json()["code"] == "key_revoked"
    assert client.post("/v1/keys/revoke", {"key": "x"}, content_type="application/json").json()["code"] == "key_malformed"


def test_a_test_key_sees_and_ends_no_live_key(make_api: Callable[..., Any], key: ApiKey) -> None:
    api = make_api(livemode=False)

    assert [row["livemode"] for row in api.get(KEYS).json()["data"]] == [False]
    assert api.delete(path_of(key)).status_code == 404
    key.refresh_from_db()
    assert key.revoked_at is None


def test_an_amount_survives_the_round_trip() -> None:
    field = Amount()

    assert field.to_representation(field.to_internal_value("12.000000001")) == "12.000000001"


def test_amounts_of_a_key_and_a_call_name_the_accounts_currency(api: Any, key: ApiKey, use: Callable[..., RequestLog]) -> None:
    Account.objects.filter(pk=key.organization.account_id).update(currency="eur")
    call = public_id("req", use(key).pk)

    shown = [api.get(path).json() for path in (f"/v1/keys/{public_id('key', key.pk)}", f"/v1/requests/{call}")]
    listed = [api.get(path).json()["data"][0] for path in ("/v1/keys", "/v1/requests")]

    assert [one["currency"] for one in (*shown, *listed)] == ["eur"] * 4
    assert api.post("/v1/keys", {"name": "fresh"}).json()["currency"] == "eur"
