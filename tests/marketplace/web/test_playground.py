import pytest
from django.test import Client

from marketplace.credentials import digest
from marketplace.models import ApiKey, ModelVersion, Organization
from marketplace.web import playground


@pytest.mark.django_db
def test_a_stranger_gets_a_free_slow_key_that_can_only_predict(client: Client, sentiment: ModelVersion) -> None:
    reply = client.post("/playground/key/")

    key = ApiKey.objects.get(digest=digest(reply.json()["key"]))
    assert (key.livemode, key.kind, key.scopes, key.playground) == (False, "rk", ["predict"], True)
    assert key.rate_per_minute == 6
    assert key.expires_at is not None
    assert "no-store" in reply["Cache-Control"]


@pytest.mark.django_db
def test_a_session_keeps_its_key(client: Client, sentiment: ModelVersion) -> None:
    keys = {client.post("/playground/key/").json()["key"] for _ in range(3)}

    assert len(keys) == 1
    assert ApiKey.objects.count() == 1


@pytest.mark.django_db
def test_an_address_gets_only_so_many_keys(sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground, "_TRIES_PER_ADDRESS", 2)

    statuses = [Client().post("/playground/key/").status_code for _ in range(3)]

    assert statuses == [200, 200, 429]
    assert ApiKey.objects.count() == 2
    assert Client(REMOTE_ADDR="198.51.100.7").post("/playground/key/").status_code == 200


@pytest.mark.django_db
def test_all_strangers_together_get_only_so_many_keys(sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground, "_TRIES_IN_ALL", 2)

    statuses = [Client(REMOTE_ADDR=f"198.51.100.{host}").post("/playground/key/").status_code for host in range(3)]

    assert statuses == [200, 200, 429]


def test_a_member_pays_for_their_own_calls(member: Client, organization: Organization, sentiment: ModelVersion) -> None:
    reply = member.post("/playground/key/")

    key = ApiKey.objects.get(digest=digest(reply.json()["key"]))
    assert (key.organization, key.livemode) == (organization, True)
    assert "Playground" not in member.get("/keys/").content.decode()  # Not a key that anybody made.


@pytest.mark.django_db
def test_a_key_is_not_given_without_the_forms_token(sentiment: ModelVersion) -> None:
    assert Client(enforce_csrf_checks=True).post("/playground/key/").status_code == 403
    assert not ApiKey.objects.exists()


@pytest.mark.django_db
def test_a_site_without_the_model_says_so(client: Client) -> None:
    assert client.post("/playground/key/").status_code == 404
    assert client.get("/").status_code == 200
