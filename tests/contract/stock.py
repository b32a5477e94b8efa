"""Triton's stock client as the tests use it: its two forms alike, its inputs, and its refusals."""

import asyncio
import gc
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.http import InferInput
from tritonclient.utils import InferenceServerException

from tests.flows.calls import Answer, Caller
from tests.flows.server import Site

TEXTS = ["a moving, funny film", "two hours I want back"]


class Aio:
    """The asynchronous client with each method run to its end."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()

        async def connect() -> Any:
            return tritonclient.http.aio.InferenceServerClient(url)

        self._client = self._loop.run_until_complete(connect())

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *args, **kwargs: self._loop.run_until_complete(method(*args, **kwargs))

    def end(self) -> None:
        self._loop.run_until_complete(self._client.close())
        gc.collect()  # The client leaves answers unread; what that warns of belongs here, not to a later test.
        self._loop.close()


def send(name: str, datatype: str, array: np.ndarray, *, binary: bool = True) -> InferInput:
    """Return an input as the client makes it."""
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def send_texts(*texts: str) -> list[InferInput]:
    """Return the starter's one input."""
    return [send("input_data", "BYTES", np.array(texts, np.object_))]


def send_numbers(*numbers: float) -> list[InferInput]:
    """Return the input of `acme/nonzero`."""
    return [send("x", "FP32", np.array(numbers, np.float32))]


def refused(call: Any) -> tuple[str, str]:
    """Return status and message of a call that must be refused."""
    with pytest.raises(InferenceServerException) as caught:
        call()
    return str(caught.value.status()), str(caught.value.message())


def post(site: Site, model: str, body: bytes, json_bytes: int | None, **headers: str) -> Answer:
    """Send what the client generates over a connection of our own, to see headers."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if json_bytes is not None:
        sent["Inference-Header-Content-Length"] = str(json_bytes)
    return Caller(site.port, site.key).post(f"/v2/models/{model}/infer", raw=body, headers=sent)


class InferenceBody:
    """The body of a call of `acme/long-rows`."""

    @staticmethod
    def of(rows: np.ndarray) -> tuple[bytes, int]:
        body, json_bytes = tritonclient.http.InferenceServerClient.generate_request_body([send("x", "FP32", rows)])
        assert json_bytes is not None
        return body, json_bytes
