import pytest
from django.test import Client

from billing.ids import public_id
from marketplace.credentials import digest
from marketplace.models import ApiKey, CatalogueModel, ModelVersion, Organization
from marketplace.web import playground

TRY = {"model": "farebox/sentiment"}


@pytest.mark.django_db
def test_a_stranger_gets_a_free_slow_key_that_can_only_predict(client: Client, sentiment: ModelVersion) -> None:
    reply = client.post("/playground/key/", TRY)

    key = ApiKey.objects.get(digest=digest(reply.json()["key"]))
    assert (key.livemode, key.kind, key.scopes, key.playground) == (False, "rk", ["predict"], True)
    assert (key.rate_per_minute, key.allowed_models) == (6, ["farebox/sentiment"])
    assert key.expires_at is not None
    assert "no-store" in reply["Cache-Control"]


@pytest.mark.django_db
def test_a_session_keeps_its_key(client: Client, sentiment: ModelVersion) -> None:
    keys = {client.post("/playground/key/", TRY).json()["key"] for _ in range(3)}

    assert len(keys) == 1
    assert ApiKey.objects.count() == 1


@pytest.mark.django_db
def test_an_address_gets_only_so_many_keys(sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground, "_TRIES_PER_ADDRESS", 2)

    statuses = [Client().post("/playground/key/", TRY).status_code for _ in range(3)]

    assert statuses == [200, 200, 429]
    assert ApiKey.objects.count() == 2
    assert Client(REMOTE_ADDR="198.51.100.7").post("/playground/key/", TRY).status_code == 200


@pytest.mark.django_db
def test_all_strangers_together_get_only_so_many_keys(sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground, "_TRIES_IN_ALL", 2)

    statuses = [Client(REMOTE_ADDR=f"198.51.100.{host}").post("/playground/key/", TRY).status_code for host in range(3)]

    assert statuses == [200, 200, 429]


def test_a_member_pays_for_their_own_calls(member: Client, organization: Organization, sentiment: ModelVersion) -> None:
    reply = member.post("/playground/key/", TRY)

    key = ApiKey.objects.get(digest=digest(reply.json()["key"]))
    assert (key.organization, key.livemode, key.allowed_models) == (organization, True, ["farebox/sentiment"])
    assert member.get("/keys/").context["live"] == []  # Not a key that anybody made.


def test_members_see_their_playground_keys_and_can_revoke_them(member: Client, sentiment: ModelVersion) -> None:
    member.post("/playground/key/", TRY)
    key = ApiKey.objects.get()
    assert "expires in 60 minutes" in member.get("/keys/").content.decode()

    assert member.get(f"/keys/{public_id('key', key.pk)}/revoke/").status_code == 200
    member.post(f"/keys/{public_id('key', key.pk)}/revoke/")

    key.refresh_from_db()
    assert key.revoked_at is not None
    assert "expires in" not in member.get("/keys/").content.decode()
    assert digest(member.post("/playground/key/", TRY).json()["key"]) != key.digest  # The page asks for one that works.


def test_a_playground_key_has_no_page_and_no_rotation(member: Client, sentiment: ModelVersion) -> None:
    member.post("/playground/key/", TRY)
    path = f"/keys/{public_id('key', ApiKey.objects.get().pk)}/"

    assert member.get(path).status_code == 404
    assert [member.post(path + deed, {"grace": "7d"}).status_code for deed in ("rotate/", "cap/")] == [404, 404]
    assert ApiKey.objects.count() == 1


def test_strangers_playground_keys_and_foreign_ones_are_nobodys_to_revoke(
    member: Client, sentiment: ModelVersion, other_organization: Organization
) -> None:
    Client().post("/playground/key/", TRY)
    foreign = Client()
    foreign.force_login(other_organization.members.get())
    foreign.post("/playground/key/", TRY)

    statuses = [member.post(f"/keys/{public_id('key', key.pk)}/revoke/").status_code for key in ApiKey.objects.all()]

    assert statuses == [404, 404]
    assert not ApiKey.objects.exclude(revoked_at=None).exists()
    assert "expires in" not in member.get("/keys/").content.decode()


@pytest.mark.django_db
def test_a_key_is_not_given_without_the_forms_token(sentiment: ModelVersion) -> None:
    assert Client(enforce_csrf_checks=True).post("/playground/key/", TRY).status_code == 403
    assert not ApiKey.objects.exists()


@pytest.mark.django_db
def test_a_site_without_the_model_says_so(client: Client) -> None:
    assert client.post("/playground/key/", TRY).status_code == 404
    assert client.get("/").status_code == 200


def _list_private(owner: Organization) -> CatalogueModel:
    return CatalogueModel.objects.create(owner=owner, name="secret", title="Secret", summary="", task="text-classification")


@pytest.mark.django_db
@pytest.mark.parametrize("model", ["farebox/secret", "farebox/nothing", "", "farebox"])
def test_a_stranger_gets_a_key_for_no_other_model(client: Client, sentiment: ModelVersion, model: str) -> None:
    _list_private(sentiment.model.owner)

    assert client.post("/playground/key/", {"model": model}).status_code == 404
    assert not ApiKey.objects.exists()


@pytest.mark.django_db
def test_a_stranger_gets_no_key_once_the_model_is_private(client: Client, sentiment: ModelVersion) -> None:
    assert client.post("/playground/key/", TRY).status_code == 200

    CatalogueModel.objects.update(public=False)

    assert client.post("/playground/key/", TRY).status_code == 404  # Nor the one that the session keeps.
    assert Client().post("/playground/key/", TRY).status_code == 404
    assert ApiKey.objects.count() == 1


def test_a_member_gets_a_key_for_each_visible_model(member: Client, organization: Organization, sentiment: ModelVersion) -> None:
    own = _list_private(organization)

    keys = [member.post("/playground/key/", {"model": path}).json()["key"] for path in (TRY["model"], own.path, TRY["model"])]

    assert keys[0] == keys[2] != keys[1]
    assert sorted(key.allowed_models for key in ApiKey.objects.all()) == [["acme/secret"], ["farebox/sentiment"]]


def test_a_member_gets_no_key_for_a_foreign_private_model(member: Client, other_organization: Organization) -> None:
    foreign = _list_private(other_organization)

    assert member.post("/playground/key/", {"model": foreign.path}).status_code == 404
    assert not ApiKey.objects.exists()


def test_the_front_page_says_who_pays(member: Client, sentiment: ModelVersion) -> None:
    free, charged = "Free to try.", "A real call, charged to your credit"
    stranger, own = Client().get("/").content.decode(), member.get("/").content.decode()

    assert (free in stranger, charged in stranger) == (True, False)
    assert (free in own, charged in own) == (False, True)
