import json
from collections.abc import Callable
from typing import Any

import pytest

from inference import landlock
from marketplace.examining import examine_waiting
from marketplace.models import ModelVersion, Organization
from tests.inference import hostile
from tests.marketplace.api.conftest import Api
from tests.marketplace.uploaded import a_model, examined

pytestmark = pytest.mark.skipif(landlock.find_abi() is None, reason="this kernel has no Landlock, so uploads are refused")
MODEL = {"name": "relu", "title": "Relu", "summary": "Nothing below zero.", "task": "tabular"}
VERSIONS = "/v1/models/acme/relu/versions"


def upload(api: Api, *, path: str = VERSIONS, content: bytes | None = None, **fields: Any) -> Any:
    """Upload a version as a client does."""
    form = {
        "model": hostile.relu().SerializeToString() if content is None else content,
        "samples": json.dumps([{"x": [[1, -1]]}]).encode(),
        "unit": "row",
        "unit_price": "0.000001",
        **fields,
    }
    return api.upload(path, {name: value for name, value in form.items() if value is not None})


def test_a_provider_goes_from_nothing_to_a_live_version(api: Api) -> None:
    made = api.post("/v1/models", MODEL)
    sent = upload(api)
    assert (made.status_code, sent.status_code) == (201, 201), sent.content
    assert (made.json()["path"], made.json()["callable"]) == ("acme/relu", False)
    assert (sent.json()["state"], sent.json()["report"]) == ("draft", None)
    assert api.get(f"{VERSIONS}/1").json()["state"] == "draft"

    examine_waiting()

    ready = api.get(f"{VERSIONS}/1").json()
    assert ready["state"] == "ready"
    assert {"load", "parity", "latency"} <= {check["name"] for check in ready["report"]["checks"]}
    live = api.post(f"{VERSIONS}/1/live", {"share_percent": 100}).json()
    assert (live["state"], live["traffic_weight"], live["prices"][0]["unit_price"]) == ("live", 1, "0.000001000")
    [shown] = api.get("/v1/models/acme/relu").json()["versions"]
    assert (shown["number"], shown["state"]) == (1, "live")
    retired = api.post(f"{VERSIONS}/1/retire", {"reason": "done"}).json()
    assert (retired["state"], retired["traffic_weight"]) == ("retired", 0)


def test_a_refused_model_says_why_and_stays_unpublished(api: Api) -> None:
    api.post("/v1/models", MODEL)
    upload(api, content=b"PK\x03\x04 a zip")
    examine_waiting()

    version = api.get(f"{VERSIONS}/1").json()
    reply = api.post(f"{VERSIONS}/1/live")

    assert version["state"] == "failed"
    assert "zip archive" in next(check["detail"] for check in version["report"]["checks"] if check["outcome"] == "failed")
    assert (reply.status_code, reply.json()["code"]) == (409, "version_state_wrong")
    assert api.get("/v1/models/acme/relu").json()["versions"] == []


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": None}, 400, "request_malformed"),
        ({"unit": "parsec"}, 400, "request_malformed"),
        ({"unit_price": "-1"}, 400, "request_malformed"),
        ({"unit_price": "cheap"}, 400, "request_malformed"),
        ({"int8_tolerance": "2"}, 422, "upload_invalid"),
        ({"int8_tolerance": "nan"}, 400, "request_malformed"),
        ({"color": "red"}, 400, "request_malformed"),
        ({"content": b""}, 400, "request_malformed"),
    ],
)
def test_an_upload_that_is_wrong_is_told_so_and_keeps_nothing(
    api: Api, settings: Any, fields: dict[str, Any], status: int, code: str
) -> None:
    api.post("/v1/models", MODEL)

    reply = upload(api, **fields)

    assert (reply.status_code, reply.json()["code"]) == (status, code), reply.content
    assert not ModelVersion.objects.exists()
    assert [path for path in settings.ARTIFACTS_DIR.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff" * 100])
def test_what_is_no_form_is_refused(api: Api, body: bytes) -> None:
    api.post("/v1/models", MODEL)

    plain = api.post(VERSIONS, body)
    broken = api.client.generic("POST", VERSIONS, body, "multipart/form-data", headers=api.headers)

    for reply in (plain, broken):
        assert (reply.status_code, reply.json()["code"]) == (400, "request_malformed")
    assert not ModelVersion.objects.exists()


def test_names_are_held_to_a_form_and_taken_once(api: Api, organization: Organization) -> None:
    assert api.post("/v1/models", MODEL).status_code == 201
    assert api.post("/v1/models", MODEL).json()["code"] == "model_name_taken"
    for name in ("Upper", "a--b", "-a", "a" * 41, "a/b", ""):
        assert api.post("/v1/models", {**MODEL, "name": name}).status_code == 400
    assert organization.models.count() == 1


def test_a_model_is_described_and_shown_by_its_owner(api: Api, organization: Organization) -> None:
    a_model(organization)

    reply = api.patch("/v1/models/acme/relu", {"title": "Better", "public": True})
    stolen = api.patch("/v1/models/acme/relu", {"owner": "other", "name": "x"})

    assert (reply.status_code, reply.json()["title"], reply.json()["public"]) == (200, "Better", True)
    assert stolen.status_code == 400


def test_a_public_model_of_somebody_else_is_not_there_to_be_changed(api: Api, sentiment: ModelVersion) -> None:
    for reply in (
        api.patch("/v1/models/farebox/sentiment", {"title": "Mine"}),
        api.get("/v1/models/farebox/sentiment/versions"),
        upload(api, path="/v1/models/farebox/sentiment/versions"),
        api.post("/v1/models/farebox/sentiment/versions/1/retire"),
        api.post("/v1/models/farebox/sentiment/versions/1/price", {"unit_price": "0"}),
    ):
        assert (reply.status_code, reply.json()["code"]) == (404, "model_not_found")

    sentiment.refresh_from_db()
    assert sentiment.state == "live"
    assert sentiment.model.versions.count() == 1


def test_keys_need_the_scope_and_keep_to_their_list(api: Api, make_api: Callable[..., Api], organization: Organization) -> None:
    a_model(organization)
    reader = make_api(kind="rk", scopes=["models:read"])
    elsewhere = make_api(kind="rk", scopes=["models:read", "models:write"], allowed_models=["acme/other"])
    manager = make_api(kind="mk")

    assert upload(reader).json()["code"] == "scope_missing"
    assert reader.post("/v1/models", {**MODEL, "name": "b"}).json()["code"] == "scope_missing"
    assert upload(elsewhere).json()["code"] == "model_not_found"
    assert elsewhere.post("/v1/models", {**MODEL, "name": "b"}).json()["code"] == "model_not_found"
    assert not ModelVersion.objects.exists()
    assert upload(manager).status_code == 201
    assert organization.models.count() == 1


def test_a_canary_gets_its_share_and_a_price_its_notice(api: Api, organization: Organization) -> None:
    model = a_model(organization)
    for _ in range(2):
        examined(model)
    api.post(f"{VERSIONS}/1/live")
    api.post(f"{VERSIONS}/2/live", {"share_percent": 20})

    assert [version["traffic_weight"] for version in api.get(VERSIONS).json()["data"]] == [1, 4]
    assert api.patch(f"{VERSIONS}/2", {"share_percent": 50}).json()["traffic_weight"] == 1
    raised = api.post(f"{VERSIONS}/1/price", {"unit_price": "1"})
    assert (raised.status_code, raised.json()["code"]) == (422, "price_invalid")
    lowered = api.post(f"{VERSIONS}/1/price", {"unit_price": "0"})
    assert [price["unit_price"] for price in lowered.json()["prices"]] == ["0.000001000", "0.000000000"]
