"""Triton's stock client, synchronous and asynchronous, against a running site: every method it has.

Source: `tritonclient[http]` 2.73.0, unmodified. What it is refused is in `test_tritonclient_refusals.py`, its bill in `test_tritonclient_bill.py`.
"""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.http import InferRequestedOutput

from tests.contract.catalogue import ROWS
from tests.contract.conftest import TensorSite
from tests.contract.stock import TEXTS, refused, send, send_numbers, send_texts

# The asynchronous client leaves connections of refused calls to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed connection", "ignore::pytest.PytestUnraisableExceptionWarning")

# ---------------------------------------------------------------- Health, metadata, configuration, index


def test_health_needs_no_key(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


@pytest.mark.parametrize(("model", "version"), [("farebox/sentiment", ""), ("farebox--sentiment", "1"), ("acme/mirror", "1")])
def test_a_model_that_can_be_called_is_ready(client: Any, key: dict[str, str], model: str, version: str) -> None:
    assert client.is_model_ready(model, version, headers=key)


@pytest.mark.parametrize(
    ("model", "version"), [("farebox/absent", ""), ("farebox/sentiment", "99"), ("other/private", ""), ("nonsense", "")]
)
def test_a_model_that_cannot_be_called_is_not_ready(client: Any, key: dict[str, str], model: str, version: str) -> None:
    assert not client.is_model_ready(model, version, headers=key)


def test_without_a_key_no_model_is_ready(client: Any) -> None:
    assert not client.is_model_ready("farebox/sentiment")


def test_the_server_tells_what_it_supports(client: Any, key: dict[str, str]) -> None:
    told = client.get_server_metadata(headers=key)

    assert told["name"] == "farebox"
    assert sorted(told["extensions"]) == sorted(
        ["model_repository", "model_configuration", "binary_tensor_data", "parameters", "statistics", "classification"]
    )


def test_a_models_metadata_names_its_tensors(client: Any, key: dict[str, str]) -> None:
    text = client.get_model_metadata("farebox/sentiment", headers=key)
    tensors = client.get_model_metadata("acme--mirror", "1", headers=key)

    assert text == {
        "name": "farebox/sentiment",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "input_data", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}, {"name": "score", "datatype": "FP32", "shape": [-1, 2]}],
    }
    assert tensors["name"] == "acme/mirror"
    assert tensors["inputs"] == [{"name": f"in_{name}", "datatype": name, "shape": [-1, 2]} for name in ROWS]


def test_a_models_configuration_is_tritons(client: Any, key: dict[str, str]) -> None:
    rows = client.get_model_config("acme/mirror", headers=key)
    alone = client.get_model_config("acme/nonzero", "1", headers=key)

    assert (rows["name"], rows["platform"], rows["max_batch_size"] > 0) == ("acme/mirror", "onnxruntime_onnx", True)
    assert {"name": "in_FP32", "data_type": "TYPE_FP32", "dims": [2]} in rows["input"]
    assert {"name": "out_BYTES", "data_type": "TYPE_STRING", "dims": [2]} in rows["output"]
    assert {"dynamic_batching", "instance_group", "version_policy"} <= rows.keys()
    assert (alone["max_batch_size"], "dynamic_batching" in alone) == (0, False)
    assert client.get_model_config("farebox/sentiment", headers=key)["parameters"]["labels"]["string_value"] == "negative,positive"


def test_the_index_lists_what_the_caller_may_call(client: Any, tensor_site: TensorSite) -> None:
    ours = client.get_model_repository_index(headers=tensor_site.headers)
    theirs = client.get_model_repository_index(headers={"Authorization": f"Bearer {tensor_site.their_key}"})

    assert {"name": "farebox/sentiment", "version": "1", "state": "READY", "reason": ""} in ours
    assert {entry["name"] for entry in ours} >= {"acme/mirror", "acme/nonzero", "acme/long-rows"}
    assert "other/private" not in {entry["name"] for entry in ours}
    assert "other/private" in {entry["name"] for entry in theirs}


# ---------------------------------------------------------------- infer


@pytest.mark.parametrize("binary_out", [True, False], ids=["binary-out", "json-out"])
@pytest.mark.parametrize("binary_in", [True, False], ids=["binary-in", "json-in"])
def test_every_datatype_goes_there_and_back(client: Any, key: dict[str, str], binary_in: bool, binary_out: bool) -> None:
    inputs = [send(f"in_{name}", name, array, binary=binary_in) for name, array in ROWS.items()]
    outputs = [InferRequestedOutput(f"out_{name}", binary_data=binary_out) for name in ROWS]

    result = client.infer("acme/mirror", inputs, outputs=outputs, headers=key)

    for name, array in ROWS.items():
        answered = result.as_numpy(f"out_{name}")
        assert answered.dtype == array.dtype
        if name == "BYTES" and binary_out:
            answered = np.array([[text.decode() for text in row] for row in answered.tolist()], np.object_)
        assert answered.tolist() == array.tolist(), name


def test_all_outputs_come_in_binary_when_none_is_named(client: Any, key: dict[str, str]) -> None:
    result = client.infer("acme/nonzero", send_numbers(0, 1, 0, 2), request_id="mine", headers=key)

    assert result.get_response()["id"] == "mine"
    assert (result.get_response()["model_name"], result.get_response()["model_version"]) == ("acme/nonzero", "1")
    assert [output["parameters"]["binary_data_size"] for output in result.get_response()["outputs"]] == [16, 4]
    assert (result.as_numpy("where").tolist(), result.as_numpy("sum").item()) == ([[1, 3]], 3.0)


def test_only_the_outputs_that_are_named_come(client: Any, key: dict[str, str]) -> None:
    result = client.infer("acme/nonzero", send_numbers(0, 1, 0, 2), outputs=[InferRequestedOutput("sum")], headers=key)

    assert result.as_numpy("where") is None
    assert result.as_numpy("sum").item() == 3.0


@pytest.mark.parametrize("binary", [True, False])
def test_an_output_of_no_elements_is_one(client: Any, key: dict[str, str], binary: bool) -> None:
    outputs = [InferRequestedOutput("where", binary_data=binary), InferRequestedOutput("sum")]

    result = client.infer("acme/nonzero", send_numbers(0, 0, 0, 0), outputs=outputs, headers=key)

    assert result.as_numpy("where").shape == (1, 0)
    assert result.as_numpy("sum").item() == 0.0


def test_texts_go_through_the_versions_pipeline(client: Any, key: dict[str, str]) -> None:
    result = client.infer("farebox/sentiment", send_texts(*TEXTS), model_version="1", headers=key)

    assert result.as_numpy("label").tolist() == [b"positive", b"negative"]
    scores = result.as_numpy("score")
    assert scores.shape == (2, 2)
    assert scores.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_classification_names_the_labels(client: Any, key: dict[str, str]) -> None:
    outputs = [InferRequestedOutput("score", class_count=1)]

    result = client.infer("farebox/sentiment", send_texts(*TEXTS), outputs=outputs, headers=key)

    best = [row[0].decode().split(":") for row in result.as_numpy("score").tolist()]
    assert [(index, label) for _, index, label in best] == [("1", "positive"), ("0", "negative")]
    assert all(0.5 < float(value) <= 1 for value, _, _ in best)


@pytest.mark.parametrize("back", ["gzip", "deflate", None])
@pytest.mark.parametrize("there", ["gzip", "deflate", None])
def test_bodies_are_compressed_both_ways(client: Any, key: dict[str, str], there: str | None, back: str | None) -> None:
    rows = np.arange(5, dtype=np.float32).reshape(5, 1)

    result = client.infer(
        "acme/long-rows", [send("x", "FP32", rows)], headers=key, request_compression_algorithm=there, response_compression_algorithm=back
    )

    assert result.as_numpy("y").tolist() == np.repeat(rows, 1000, axis=1).tolist()


def test_several_calls_run_at_once(tensor_site: TensorSite) -> None:
    with tritonclient.http.InferenceServerClient(tensor_site.url, concurrency=4) as client:
        calls = [client.async_infer("acme/nonzero", send_numbers(n, 1, 0, 0), headers=tensor_site.headers) for n in range(12)]
        sums = [call.get_result(timeout=30).as_numpy("sum").item() for call in calls]

    assert sums == [n + 1 for n in range(12)]


def test_several_coroutines_run_at_once(tensor_site: TensorSite) -> None:
    async def main() -> list[float]:
        async with tritonclient.http.aio.InferenceServerClient(tensor_site.url) as client:
            calls = [client.infer("acme/nonzero", send_numbers(n, 1, 0, 0), headers=tensor_site.headers) for n in range(12)]
            return [result.as_numpy("sum").item() for result in await asyncio.gather(*calls)]

    assert asyncio.run(main()) == [n + 1 for n in range(12)]


# ---------------------------------------------------------------- Statistics


def test_statistics_count_the_callers_own_calls(client: Any, tensor_site: TensorSite) -> None:
    headers = tensor_site.headers
    (before,) = client.get_inference_statistics("acme/mirror", "1", headers=headers)["model_stats"]
    inputs = [send(f"in_{name}", name, array) for name, array in ROWS.items()]
    client.infer("acme/mirror", inputs, headers=dict(headers))
    refused(lambda: client.infer("acme/mirror", inputs[:1], headers=dict(headers)))

    (after,) = client.get_inference_statistics("acme/mirror", headers=headers)["model_stats"]

    assert (after["name"], after["version"]) == ("acme/mirror", "1")
    assert after["inference_count"] - before["inference_count"] == 2  # Rows.
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 1
    assert after["inference_stats"]["fail"]["count"] - before["inference_stats"]["fail"]["count"] == 1
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    assert after["last_inference"] > before["last_inference"]
    assert {2} <= {batch["batch_size"] for batch in after["batch_stats"]}


def test_statistics_of_all_models_are_those_the_caller_has_called(client: Any, tensor_site: TensorSite) -> None:
    client.infer("acme/nonzero", send_numbers(1, 0, 0, 0), headers=tensor_site.headers)

    ours = client.get_inference_statistics(headers=tensor_site.headers)["model_stats"]
    theirs = client.get_inference_statistics(headers={"Authorization": f"Bearer {tensor_site.their_key}"})["model_stats"]

    assert "acme/nonzero" in {entry["name"] for entry in ours}
    assert "acme/nonzero" not in {entry["name"] for entry in theirs}


# ---------------------------------------------------------------- Nothing is forgotten


def test_every_method_of_the_client_is_driven_above() -> None:
    methods = {name for name in dir(tritonclient.http.InferenceServerClient) if not name.startswith("_")}
    driven = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))

    # Of the client's own: closing, and the plugins that write headers.
    assert {name for name in methods if f".{name}" not in driven} == {"plugin", "register_plugin", "unregister_plugin"}
