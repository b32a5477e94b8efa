"""Calls with named tensors over HTTP: what comes back, what it costs, and what is refused for nothing."""

import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.flows.calls import Answer, Caller
from tests.flows.raw import publish_raw, run_on
from tests.flows.server import Site
from tests.inference.graphs import accumulator, double, shout, zip_map


@pytest.fixture(scope="module")
def addresses(site: Site) -> dict[str, str]:
    """Four published graphs: their addresses by name."""
    return {
        "accumulator": publish_raw(site, accumulator(), name="accumulator", unit="call"),
        "double": publish_raw(site, double(), name="double"),
        "shout": publish_raw(site, shout(), name="shout"),
        "zip-map": publish_raw(site, zip_map(), name="zip-map"),
    }


@pytest.fixture
def caller(site: Site) -> Caller:
    return Caller(site.port, site.key)


def predict(caller: Caller, address: str, **tensors: Any) -> Answer:
    return caller.post(f"{address}/predict", {"input_data": tensors})


def answered(answer: Answer) -> Any:
    assert answer.status == 200, answer.body
    return answer.json()["prediction"]


def test_state_is_passed_from_call_to_call(caller: Caller, addresses: dict[str, str]) -> None:
    state = [0, 0.5]
    for x in (1, 2):
        prediction = answered(predict(caller, addresses["accumulator"], x=x, state=state))
        state = prediction["state_out"]
    assert prediction == {"y": [30.0, 35.0], "state_out": [3.0, 3.5]}


def test_texts_and_maps_are_plain_json(caller: Caller, addresses: dict[str, str]) -> None:
    assert answered(predict(caller, addresses["shout"], text=["值得一看", ""])) == {"same": ["值得一看", ""]}
    assert answered(predict(caller, addresses["zip-map"], scores=[[0.25, 0.75]])) == {"named": [{"no": 0.25, "yes": 0.75}]}


def test_rows_are_charged_by_the_first_dimension(site: Site, caller: Caller, addresses: dict[str, str]) -> None:
    before = site.charged()
    answer = predict(caller, addresses["double"], x=[[1, 2, 3]] * 5)

    assert answered(answer) == {"y": [[2.0, 4.0, 6.0]] * 5}
    assert answer.json()["usage"]["units"] == 5
    assert float(answer.headers["farebox-cost"]) == 5e-6
    assert site.charged() - before == 5_000
    estimate = caller.post(f"{addresses['double']}/estimate", {"input_data": {"x": [[1, 2, 3]] * 7}})
    assert estimate.json()["usage"]["units"] == 7
    assert site.charged() - before == 5_000


@pytest.mark.parametrize(
    ("input_data", "param"),
    [
        ({}, "input_data.x"),
        ({"x": [[1, 2]]}, "input_data.x"),
        ({"x": [[1, 2, "3"]]}, "input_data.x"),
        ({"x": [[1, 2, 1e39]]}, "input_data.x"),
        ({"x": [[1, 2, 3]], "z": 1}, "input_data.z"),
        ([[1, 2, 3]], "input_data"),
        ("text", "input_data"),
    ],
    ids=str,
)
def test_what_the_graph_does_not_take_is_refused_by_name_and_charged_nothing(
    site: Site, caller: Caller, addresses: dict[str, str], input_data: Any, param: str
) -> None:
    before = site.charged()
    for action in ("predict", "estimate"):
        answer = caller.post(f"{addresses['double']}/{action}", {"input_data": input_data})
        assert (answer.status, answer.code) == (422, "invalid_input"), answer.body
        assert answer.json()["errors"][0]["param"] == param
    assert site.charged() == before


def test_parameters_are_a_pipelines_business(caller: Caller, addresses: dict[str, str]) -> None:
    answer = caller.post(f"{addresses['double']}/predict", {"input_data": {"x": [[1, 2, 3]]}, "parameters": {"top_k": 1}})

    assert (answer.status, answer.json()["errors"][0]["param"]) == (422, "parameters.top_k")


def test_tensors_may_be_larger_than_texts_and_a_version_may_say_otherwise(site: Site, caller: Caller, addresses: dict[str, str]) -> None:
    row = "[" + ",".join(["1.2345678901234567"] * 3) + "]"
    rows = (2 * 2**20) // len(row)
    body = ('{"input_data": {"x": [' + ",".join([row] * rows) + "]}}").encode()
    assert len(body) > 2**20
    answer = caller.post(f"{addresses['double']}/predict", raw=body)
    assert len(answered(answer)["y"]) == rows
    assert Caller(site.port, site.key).post("/v1/models/farebox/sentiment/predict", raw=body).code == "body_too_large"

    run_on(
        site,
        "from marketplace.models import ModelVersion as V; from marketplace.changes import model_changed;"
        "v = V.objects.get(model__name='double'); v.max_body_bytes = 2000; v.save(); model_changed(v.model)",
    )
    time.sleep(1)
    refused = Caller(site.port, site.key).post(f"{addresses['double']}/predict", raw=body)
    assert (refused.status, refused.code) == (413, "body_too_large")


def test_a_models_own_documents_describe_its_tensors(caller: Caller, addresses: dict[str, str]) -> None:
    shown = caller.get(addresses["accumulator"]).json()
    assert shown["signature"]["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [], "optional": False, "kind": "tensor"}
    assert [spec["name"] for spec in shown["signature"]["outputs"]] == ["y", "state_out"]
    Draft202012Validator.check_schema(shown["input_schema"])
    Draft202012Validator(shown["input_schema"]).validate(shown["example"])
    assert caller.post(f"{addresses['accumulator']}/predict", shown["example"]).status == 200
    document = caller.get(f"{addresses['accumulator']}/openapi.json").json()
    body = document["paths"]["/v1/models/farebox/accumulator/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == shown["input_schema"]


def test_a_models_page_shows_its_tensors_and_a_call_that_works(caller: Caller, addresses: dict[str, str]) -> None:
    page = caller.get("/models/farebox/accumulator/").body.decode()

    assert "state_out" in page
    assert "[2]" in page
    assert "data-playground" not in page
    assert '{"input_data": {"x": 0.0, "state": [0.0, 0.0]}}' in page.replace("&quot;", '"').replace("&#x27;", "'")
