"""`explain` against a running site: what moved the prediction, and what it costs to know."""

from typing import Any

import pytest

from tests.contract.conftest import TensorSite
from tests.flows.calls import Answer, Caller

# An int8 model's scores depend a little on what else is in the batch: its activations are scaled together.
INT8 = 0.01
FILM = "a moving, funny film"


def explain(site: TensorSite, model: str, input_data: object, *, headers: dict[str, str] | None = None, **parameters: object) -> Answer:
    """Ask for an explanation."""
    body = {"input_data": input_data, "parameters": parameters}
    return Caller(site.site.port, site.key).post(f"/v1/models/{model}/explain", body, headers=headers)


def predict(site: TensorSite, text: str) -> dict[str, float]:
    """Return the starter's scores by label."""
    (row,) = Caller(site.site.port, site.key).predict({"input_data": text}).json()["prediction"]
    return {entry["label"]: entry["score"] for entry in row}


def test_an_attribution_is_the_score_less_the_score_without_the_word(tensor_site: TensorSite) -> None:
    answer = explain(tensor_site, "farebox/sentiment", FILM)

    assert answer.status == 200, answer.body
    (explained,) = answer.json()["explanation"]
    whole = predict(tensor_site, FILM)["positive"]
    assert (explained["label"], explained["score"]) == ("positive", pytest.approx(whole, abs=INT8))
    assert [FILM[element["start"] : element["end"]] for element in explained["elements"]] == ["a", "moving", ",", "funny", "film"]
    without_funny = predict(tensor_site, "a moving, film")["positive"]
    assert explained["elements"][3]["attribution"] == pytest.approx(whole - without_funny, abs=INT8)
    assert explained["elements"][3]["attribution"] > 5 * INT8


def test_the_other_label_mirrors_it(tensor_site: TensorSite) -> None:
    positive = explain(tensor_site, "farebox/sentiment", FILM, label="positive").json()["explanation"][0]
    negative = explain(tensor_site, "farebox/sentiment", FILM, label="negative").json()["explanation"][0]

    assert positive["score"] + negative["score"] == pytest.approx(1, abs=INT8)
    for one, other in zip(positive["elements"], negative["elements"], strict=True):
        assert one["attribution"] == pytest.approx(-other["attribution"], abs=INT8)


def test_it_is_charged_as_what_it_runs(tensor_site: TensorSite) -> None:
    before = tensor_site.site.charged()

    answer = explain(tensor_site, "farebox/sentiment", [FILM, "dull"])

    # 5 words and 5 x 4 without one, 1 word and 1 in its place: 27 tokens in 8 rows, at 200 nanos each.
    assert (answer.json()["rows"], answer.json()["usage"]["units"]) == (8, 27)
    assert answer.headers["farebox-units"] == "27"
    assert tensor_site.site.charged() - before == 27 * 200


def test_a_table_is_explained_by_its_features(tensor_site: TensorSite) -> None:
    before = tensor_site.site.charged()

    # weights (2, -3): score 2 a - 3 b
    answer = explain(tensor_site, "acme/linear", {"x": [[1.0, 4.0], [0.5, 0.0]]}, baseline=[0, 1])

    first, second = answer.json()["explanation"]
    assert (first["output"], first["index"], first["score"]) == ("score", 0, -10.0)
    assert [element["attribution"] for element in first["elements"]] == [2.0, -9.0]
    assert [element["attribution"] for element in second["elements"]] == [1.0, 3.0]
    assert first["elements"][1] == {"index": 1, "value": 4.0, "baseline": 1.0, "attribution": -9.0}
    assert tensor_site.site.charged() - before == 6 * 1000  # Rows.


@pytest.mark.parametrize(
    ("model", "input_data", "parameters", "told"),
    [
        ("farebox/sentiment", "", {}, "no words"),
        ("farebox/sentiment", 5, {}, "text"),
        ("farebox/sentiment", "word " * 256, {}, "257 rows"),
        ("farebox/sentiment", [FILM] * 60, {}, "360 rows"),
        ("farebox/sentiment", FILM, {"label": "angry"}, "labels are"),
        ("farebox/sentiment", FILM, {"label": ["positive"]}, "labels are"),
        ("farebox/sentiment", FILM, {"top_k": 1}, "label"),
        ("acme/mirror", {}, {}, "can be explained"),
        ("acme/nonzero", {"x": [1, 2, 3, 4]}, {}, "can be explained"),
        ("acme/linear", {"x": []}, {}, ""),
        ("acme/linear", {"x": [[1, 2]]}, {"baseline": [1]}, "list of 2"),
        ("acme/linear", {"x": [[1, 2]]}, {"baseline": "0"}, "list of 2"),
        ("acme/linear", {"x": [[1, 2]]}, {"baseline": 1e300}, "can hold"),
        ("acme/linear", {"x": [[1, 2]]}, {"output": "nothing"}, "outputs of scores"),
        ("acme/linear", {"x": [[1, 2]]}, {"index": 5}, "1 values"),
        ("acme/linear", {"x": [[1, 2]]}, {"index": -1}, "whole number"),
        ("acme/linear", {"x": [[1, 2]] * 100}, {}, "300 rows"),
    ],
    ids=str,
)
def test_what_cannot_be_explained_is_refused_and_costs_nothing(
    tensor_site: TensorSite, model: str, input_data: object, parameters: dict[str, Any], told: str
) -> None:
    before = tensor_site.site.charged()

    answer = explain(tensor_site, model, input_data, **parameters)

    assert (answer.status, answer.code) == (422, "invalid_input"), answer.body
    assert told in answer.json()["detail"]
    assert tensor_site.site.charged() == before


def test_it_is_held_to_x_max_cost_and_repeated_for_one_charge(tensor_site: TensorSite) -> None:
    assert explain(tensor_site, "farebox/sentiment", FILM, headers={"X-Max-Cost": "0.000001"}).status == 402
    first = explain(tensor_site, "farebox/sentiment", FILM, headers={"Idempotency-Key": "explained"})
    before = tensor_site.site.charged()

    again = explain(tensor_site, "farebox/sentiment", FILM, headers={"Idempotency-Key": "explained"})

    assert (again.status, again.body) == (200, first.body)
    assert tensor_site.site.charged() == before
