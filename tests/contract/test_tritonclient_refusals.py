"""What the stock client is refused: the right status, an error it understands, and nothing charged."""

from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferInput, InferRequestedOutput

from tests.contract.conftest import TensorSite
from tests.contract.stock import refused, send, send_numbers, send_texts

# The asynchronous client leaves connections of refused calls to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed connection", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize(
    ("model", "version", "inputs", "options", "status", "told"),
    [
        ("farebox/absent", "", send_texts("a"), {}, "404", "model_not_found"),
        ("other/private", "", send_numbers(1, 2, 3, 4), {}, "404", "model_not_found"),
        ("farebox/sentiment", "99", send_texts("a"), {}, "404", "model_not_found"),
        ("sentiment", "", send_texts("a"), {}, "404", "owner/model"),
        ("acme/nonzero", "", [send("y", "FP32", np.zeros(4, np.float32))], {}, "422", "no such input"),
        ("acme/nonzero", "", [send("x", "FP64", np.zeros(4))], {}, "422", "FP32"),
        ("acme/nonzero", "", [send("x", "FP32", np.zeros(5, np.float32))], {}, "422", "shape"),
        ("acme/nonzero", "", [send("x", "FP32", np.array([1, np.nan, 0, 0], np.float32))], {}, "422", "NaN"),
        ("acme/nonzero", "", send_numbers(1, 2, 3, 4), {"outputs": [InferRequestedOutput("z")]}, "422", "no such output"),
        ("acme/nonzero", "", send_numbers(1, 2, 3, 4), {"parameters": {"top_k": 1}}, "422", "parameter"),
        ("acme/nonzero", "", send_numbers(1, 2, 3, 4), {"sequence_id": 7, "sequence_start": True}, "400", "sequence_id"),
        ("farebox/sentiment", "", [send("input_data", "BYTES", np.array([b"\xff"], np.object_))], {}, "422", "UTF-8"),
        ("farebox/sentiment", "", send_texts(""), {}, "422", "no words"),
        ("farebox/sentiment", "", [send("input_data", "INT32", np.array([1], np.int32))], {}, "422", "BYTES"),
    ],
)
def test_a_refusal_is_an_error_of_the_client_and_costs_nothing(
    *,
    client: Any,
    tensor_site: TensorSite,
    model: str,
    version: str,
    inputs: list[InferInput],
    options: dict[str, Any],
    status: str,
    told: str,
) -> None:
    before = tensor_site.site.charged()

    got, message = refused(lambda: client.infer(model, inputs, model_version=version, headers=tensor_site.headers, **options))

    assert (got, told in message) == (status, True), message
    assert tensor_site.site.charged() == before


def test_a_call_with_too_little_time_is_504_and_costs_nothing(client: Any, tensor_site: TensorSite) -> None:
    before = tensor_site.site.charged()

    status, message = refused(
        lambda: client.infer("farebox/sentiment", send_texts("a film " * 100), timeout=1, headers=tensor_site.headers)
    )

    assert (status, message.split(":")[0]) == ("504", "deadline_exceeded")
    assert tensor_site.site.charged() == before


@pytest.mark.parametrize(("headers", "code"), [({}, "key_missing"), ({"Authorization": "Bearer x"}, "key_malformed")])
def test_without_a_good_key_everything_but_health_is_refused(client: Any, headers: dict[str, str], code: str) -> None:
    calls = [
        client.get_server_metadata,
        client.get_model_repository_index,
        client.get_inference_statistics,
        lambda **options: client.get_model_metadata("farebox/sentiment", **options),
        lambda **options: client.get_model_config("farebox/sentiment", **options),
        lambda **options: client.infer("farebox/sentiment", send_texts("a"), **options),
        lambda **options: client.load_model("farebox/sentiment", **options),
    ]

    for call in calls:
        status, message = refused(lambda call=call: call(headers=dict(headers)))
        assert (status, message.split(":")[0]) == ("401", code)


def test_what_is_for_whoever_runs_the_server_is_not_offered(client: Any, key: dict[str, str]) -> None:
    calls = [
        lambda: client.load_model("farebox/sentiment", headers=key),
        lambda: client.unload_model("farebox/sentiment", headers=key),
        lambda: client.update_trace_settings(settings={"trace_level": ["OFF"]}, headers=key),
        lambda: client.update_trace_settings("farebox/sentiment", settings={"trace_level": ["OFF"]}, headers=key),
        lambda: client.get_trace_settings(headers=key),
        lambda: client.get_trace_settings("farebox/sentiment", headers=key),
        lambda: client.update_log_settings({"log_info": True}, headers=key),
        lambda: client.get_log_settings(headers=key),
        lambda: client.get_system_shared_memory_status(headers=key),
        lambda: client.register_system_shared_memory("a", "/a", 8, headers=key),
        lambda: client.unregister_system_shared_memory("a", headers=key),
        lambda: client.unregister_system_shared_memory(headers=key),
        lambda: client.get_cuda_shared_memory_status("a", headers=key),
        lambda: client.register_cuda_shared_memory("a", b"handle", 0, 8, headers=key),
        lambda: client.unregister_cuda_shared_memory("a", headers=key),
        lambda: client.unregister_cuda_shared_memory(headers=key),
    ]

    for call in calls:
        status, message = refused(call)
        assert (status, message.split(":")[0]) == ("404", "not_offered")


def test_shared_memory_in_a_request_is_refused(client: Any, key: dict[str, str]) -> None:
    tensor = InferInput("x", [4], "FP32")
    tensor.set_shared_memory("region", 16)

    assert refused(lambda: client.infer("acme/nonzero", [tensor], headers=key))[0] == "400"
