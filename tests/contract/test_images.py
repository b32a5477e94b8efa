"""Images in and classes out, Chinese in and labels out, against a running site: native, by the stock client, and on the bill."""

import json

import numpy as np
import pytest
import tritonclient.http as client_of

from tests.contract.conftest import TensorSite
from tests.flows.calls import Answer, Caller
from tests.inference.pictures import BLUE, GREEN, RED, picture, text

COLORS = "/v1/models/acme/colors"


@pytest.fixture
def caller(tensor_site: TensorSite) -> Caller:
    return Caller(tensor_site.site.port, tensor_site.key)


def predict(caller: Caller, input_data: object, **parameters: object) -> Answer:
    return caller.post(f"{COLORS}/predict", {"input_data": input_data, "parameters": parameters})


def test_images_are_answered_and_billed_by_the_row(caller: Caller) -> None:
    sent = [text(picture(GREEN, kind="JPEG")), "data:image/png;base64," + text(picture(BLUE, size=(200, 100)))]

    answer = predict(caller, sent, top_k=1)

    assert answer.status == 200, answer.body
    assert [[entry["label"] for entry in row] for row in answer.json()["prediction"]] == [["green"], ["blue"]]
    assert answer.json()["usage"]["units"] == 2
    assert (answer.headers["farebox-units"], answer.headers["farebox-cost"]) == ("2", "0.000002000")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [(picture(RED)[:-40], "undecodable"), (b"GIF89a" + bytes(30), "wrong_encoding")],
)
def test_a_broken_image_is_the_callers_fault_and_costs_nothing(caller: Caller, tensor_site: TensorSite, broken: bytes, reason: str) -> None:
    count = "SELECT COUNT(*) FROM billing_usageevent"
    before = tensor_site.site.query(count)

    answer = predict(caller, [text(picture(RED)), text(broken)])

    assert answer.status == 422, answer.body
    problem = answer.json()
    assert (problem["code"], problem["errors"][0]["param"], problem["errors"][0]["code"]) == ("invalid_input", "input_data[1]", reason)
    assert tensor_site.site.query(count) == before
    assert predict(caller, text(picture(RED))).status == 200


def test_an_estimate_and_a_refused_explanation(caller: Caller) -> None:
    body = {"input_data": [text(picture(RED))] * 3}

    estimate = caller.post(f"{COLORS}/estimate", body)
    explain = caller.post(f"{COLORS}/explain", body)

    assert (estimate.status, estimate.json()["usage"]["units"]) == (200, 3)
    assert (explain.status, explain.json()["errors"][0]["code"]) == (422, "not_explainable")


def test_the_models_own_document_tells_what_to_send(caller: Caller) -> None:
    document = caller.get(f"{COLORS}/openapi.json").json()
    page = caller.get("/models/acme/colors/")

    assert "base64" in json.dumps(document)
    assert page.status == 200
    assert b"iVBOR" in page.body  # The example's picture.


@pytest.mark.parametrize("binary", [True, False])
def test_the_stock_client_sends_files_or_base64(tensor_site: TensorSite, binary: bool) -> None:
    files = [picture(RED), picture(BLUE, kind="JPEG")]
    sent = np.array(files if binary else [text(one).encode() for one in files], dtype=object)
    asked = client_of.InferInput("input_data", [2], "BYTES")
    asked.set_data_from_numpy(sent, binary_data=binary)

    with client_of.InferenceServerClient(tensor_site.url) as client:
        result = client.infer("acme/colors", [asked], headers=tensor_site.headers)

    assert result.as_numpy("label").tolist() == [b"red", b"blue"]
    assert result.as_numpy("score").shape == (2, 3)


def test_chinese_is_read_by_characters_labelled_and_explained(caller: Caller) -> None:
    answer = caller.post("/v1/models/acme/hanzi/predict", {"input_data": ["好", "不 怎么样"]})
    explained = caller.post("/v1/models/acme/hanzi/explain", {"input_data": "很 好"})

    assert answer.status == 200, answer.body
    assert [row[0]["label"] for row in answer.json()["prediction"]] == ["正面", "负面"]
    assert answer.json()["usage"]["units"] == 5
    elements = explained.json()["explanation"][0]["elements"]
    assert [(element["text"], element["start"]) for element in elements] == [("很", 0), ("好", 2)]
    assert elements[1]["attribution"] > 0.5
