from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from billing.models import Price
from marketplace.models import ApiKey, CatalogueModel, ModelVersion, Organization

MODEL = "/v1/models/farebox/sentiment"


def test_the_catalogue_shows_what_can_be_called_and_for_how_much(api: Any, sentiment: ModelVersion) -> None:
    [model] = api.get("/v1/models").json()["data"]

    assert (model["path"], model["callable"], model["version"]) == ("farebox/sentiment", True, 1)
    assert (model["price"]["unit"], model["price"]["unit_price"], model["price"]["currency"]) == ("token", "0.000000200", "usd")


def test_a_model_shows_its_card_schema_and_versions(api: Any, sentiment: ModelVersion) -> None:
    model = api.get(MODEL).json()

    Draft202012Validator.check_schema(model["input_schema"])
    Draft202012Validator(model["input_schema"]).validate(model["example"])
    assert model["versions"][0]["digest"] == sentiment.digest
    assert model["versions"][0]["prices"][0]["unit_price"] == "0.000000200"
    assert model["card_markdown"].startswith("# ")
    assert model["latency"] == {"calls": 0, "p50_ms": None, "p99_ms": None}


def test_latency_is_that_of_all_tenants_newest_answers(api: Any, key: ApiKey, use: Callable[..., Any]) -> None:
    for milliseconds in range(1, 101):
        use(key, total_us=milliseconds * 1000)

    assert api.get(MODEL).json()["latency"] == {"calls": 100, "p50_ms": 50.0, "p99_ms": 99.0}


def test_another_organizations_private_model_is_answered_as_an_absent_one(
    api: Any, sentiment: ModelVersion, same_but_id: Callable[..., bool]
) -> None:
    CatalogueModel.objects.update(public=False)

    for tail in ("", "/openapi.json"):
        foreign, absent = api.get(MODEL + tail), api.get("/v1/models/farebox/nothing" + tail)
        assert (foreign.status_code, foreign.json()["code"]) == (404, "model_not_found")
        assert same_but_id(foreign, absent)
    assert api.get("/v1/models").json()["data"] == []


def test_an_own_private_model_is_shown(api: Any, organization: Organization) -> None:
    CatalogueModel.objects.create(owner=organization, name="mine", title="Mine", summary="", task="text-classification")

    model = api.get("/v1/models/acme/mine").json()

    assert (model["callable"], model["version"], model["price"], model["input_schema"]) == (False, None, None, None)


def test_a_key_with_a_list_sees_the_models_on_it(make_api: Callable[..., Any], sentiment: ModelVersion) -> None:
    assert make_api(allowed_models=["farebox/sentiment"]).get(MODEL).status_code == 200
    other = make_api(allowed_models=["acme/other"])
    assert other.get(MODEL).status_code == 404
    assert other.get("/v1/models").json()["data"] == []


@pytest.mark.parametrize("change", [{"state": "retired"}, {"state": "draft"}, {"folder": "gone"}, {"traffic_weight": 0}])
def test_a_model_without_an_open_version_is_not_callable(api: Any, sentiment: ModelVersion, change: dict[str, Any]) -> None:
    ModelVersion.objects.update(**change)

    assert api.get(MODEL).json()["callable"] is False


def test_a_draft_is_nobodys_business(api: Any, sentiment: ModelVersion) -> None:
    ModelVersion.objects.update(state="draft")

    assert api.get(MODEL).json()["versions"] == []


def test_a_catalogue_page_reads_prices_once(api: Any, sentiment: ModelVersion, django_assert_max_num_queries: Any) -> None:
    for number in range(2, 12):
        ModelVersion.objects.create(
            model=sentiment.model, number=number, state="live", folder=sentiment.folder, digest=sentiment.digest, size_bytes=1
        )
    assert Price.objects.count() == 1

    with django_assert_max_num_queries(6):
        api.get("/v1/models")


def test_a_models_own_document_describes_its_input(api: Any, sentiment: ModelVersion) -> None:
    document = api.get(f"{MODEL}/openapi.json").json()

    body = document["paths"][f"{MODEL}/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert document["openapi"] == "3.1.0"
    assert body["schema"] == api.get(MODEL).json()["input_schema"]
