"""What a call with the stock client's bytes costs, and how it is repeated; seen in the headers."""

import gzip
import json
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient

from tests.contract.catalogue import ROWS
from tests.contract.conftest import TensorSite
from tests.contract.stock import TEXTS, InferenceBody, post, refused, send, send_numbers, send_texts
from tests.flows.calls import Caller

# The asynchronous client leaves connections of refused calls to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed connection", "ignore::pytest.PytestUnraisableExceptionWarning")


def test_an_answer_tells_its_cost_and_is_one_usage_event(tensor_site: TensorSite) -> None:
    site = tensor_site.site
    before, events = site.charged(), site.query("SELECT COUNT(*) FROM billing_usageevent")
    body, json_bytes = InferenceServerClient.generate_request_body([send(f"in_{name}", name, array) for name, array in ROWS.items()])

    answer = post(tensor_site.site, "acme/mirror", body, json_bytes)

    assert answer.status == 200
    assert (answer.headers["farebox-units"], answer.headers["farebox-cost"]) == ("2", "0.000002000")
    assert {"farebox-model-version", "farebox-model-digest", "farebox-provider", "farebox-currency", "request-id", "ratelimit"} <= set(
        answer.headers
    )
    stages = [part.split(";")[0].strip() for part in answer.headers["server-timing"].split(",")]
    assert stages == ["auth", "limit", "queue", "infer", "settle"]
    assert site.charged() - before == 2 * 1000
    assert site.query("SELECT COUNT(*) FROM billing_usageevent") == events + 1
    result = InferenceServerClient.parse_response_body(answer.body, header_length=int(answer.headers["inference-header-content-length"]))
    assert result.as_numpy("out_INT8").tolist() == ROWS["INT8"].tolist()


def test_texts_cost_as_much_as_on_the_native_address(tensor_site: TensorSite) -> None:
    native = Caller(tensor_site.site.port, tensor_site.key).predict({"input_data": TEXTS})
    body, json_bytes = InferenceServerClient.generate_request_body(send_texts(*TEXTS))

    answer = post(tensor_site.site, "farebox/sentiment", body, json_bytes)

    assert answer.headers["farebox-cost"] == native.headers["farebox-cost"]
    assert answer.headers["farebox-units"] == native.headers["farebox-units"]


def test_a_repeated_request_gets_the_same_bytes_and_is_charged_once(tensor_site: TensorSite) -> None:
    body, json_bytes = InferenceServerClient.generate_request_body([send("x", "FP32", np.ones((3, 1), np.float32))])
    first = post(tensor_site.site, "acme/long-rows", body, json_bytes, idempotency_key="oip-1")
    before = tensor_site.site.charged()

    again = post(tensor_site.site, "acme/long-rows", body, json_bytes, idempotency_key="oip-1")
    packed = post(tensor_site.site, "acme/long-rows", body, json_bytes, idempotency_key="oip-1", accept_encoding="gzip")
    other = post(tensor_site.site, "acme/long-rows", *InferenceBody.of(np.zeros((3, 1), np.float32)), idempotency_key="oip-1")

    assert (first.status, again.body, again.headers["idempotent-replayed"]) == (200, first.body, "true")
    assert again.headers["inference-header-content-length"] == first.headers["inference-header-content-length"]
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(first.body) / 10
    assert (other.status, other.json()["error"].split(":")[0]) == (422, "idempotency_key_reused")
    assert tensor_site.site.charged() == before


def test_a_key_without_money_left_is_402_and_runs_nothing(client: Any, tensor_site: TensorSite) -> None:
    capped = tensor_site.site.issue_key(name="capped", monthly_cap_nanos=999)

    status, message = refused(
        lambda: client.infer("acme/nonzero", send_numbers(1, 0, 0, 0), headers={"Authorization": f"Bearer {capped['secret']}"})
    )

    assert (status, message.split(":")[0]) == ("402", "budget_exceeded")
    assert tensor_site.site.events_of(capped["id"]) == 0


def test_brotli_is_never_answered(tensor_site: TensorSite) -> None:
    answer = post(tensor_site.site, "acme/long-rows", *InferenceBody.of(np.ones((3, 1), np.float32)), accept_encoding="br")

    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(("encoding", "status"), [("br", 400), ("gzip", 400)])
def test_a_body_that_is_not_what_its_encoding_says_is_refused(tensor_site: TensorSite, encoding: str, status: int) -> None:
    answer = post(tensor_site.site, "acme/long-rows", *InferenceBody.of(np.ones((3, 1), np.float32)), content_encoding=encoding)

    assert answer.status == status
    assert set(answer.json()) == {"error"}


def test_a_bomb_is_413(tensor_site: TensorSite) -> None:
    answer = post(tensor_site.site, "acme/long-rows", gzip.compress(bytes(60_000_000)), None, content_encoding="gzip")

    assert (answer.status, answer.json()["error"].split(":")[0]) == (413, "body_too_large")


def test_json_alone_works_with_plain_curl(tensor_site: TensorSite) -> None:
    body = json.dumps({"inputs": [{"name": "x", "shape": [4], "datatype": "FP32", "data": [0, 1, 0, 2]}]}).encode()

    answer = post(tensor_site.site, "acme--nonzero/versions/1", body, None)

    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["outputs"] == [
        {"name": "where", "datatype": "INT64", "shape": [1, 2], "data": [1, 3]},
        {"name": "sum", "datatype": "FP32", "shape": [], "data": [3.0]},
    ]
