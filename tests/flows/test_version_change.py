"""A new version takes over from an old one while callers call: every call is answered, by one or by the other."""

import json
import threading
import time
from collections import Counter

import numpy as np
import pytest
from onnx import TensorProto, helper

from inference import landlock
from tests.flows.calls import Caller
from tests.flows.server import Site
from tests.flows.test_publishing import make_model, upload, wait_until_examined
from tests.inference.graphs import graph, tensor

pytestmark = pytest.mark.skipif(landlock.find_abi() is None, reason="this kernel has no Landlock, so uploads are refused")
PATH = "/v1/models/demo/times"
CALLERS = 6


def times(factor: float) -> bytes:
    """Return a model that multiplies its rows by a number: its answer tells which version it is."""
    x, y = tensor("x", TensorProto.FLOAT, ["rows", 2]), tensor("y", TensorProto.FLOAT, ["rows", 2])
    return graph([helper.make_node("Mul", ["x", "factor"], ["y"])], [x], [y], factor=np.array(factor, np.float32)).SerializeToString()


@pytest.mark.timeout(240)
def test_a_version_is_replaced_and_retired_without_a_failed_call(site: Site) -> None:
    make_model(site, "times")
    caller = Caller(site.port, site.key)
    samples = json.dumps([{"x": [[1.0, -1.0]]}]).encode()
    for number, factor in ((1, 2.0), (2, 3.0)):
        assert upload(site, "times", times(factor), samples=samples).status == 201
        assert wait_until_examined(site, "times", number)["state"] == "ready"
    caller.post(f"{PATH}/versions/1/live", {"share_percent": 100})
    body = {"input_data": {"x": [[1.0, 5.0]]}}
    deadline = time.monotonic() + 10
    while caller.post(f"{PATH}/predict", body).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stop = threading.Event()
    answers: list[tuple[int, str, object]] = []

    def call() -> None:
        own = Caller(site.port, site.key)
        while not stop.is_set():
            answer = own.post(f"{PATH}/predict", body)
            answers.append((answer.status, answer.headers.get("farebox-model-version", ""), answer.json().get("prediction")))

    threads = [threading.Thread(target=call) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1)
        assert caller.post(f"{PATH}/versions/2/live", {"share_percent": 50}).status == 200
        time.sleep(2)
        assert caller.patch(f"{PATH}/versions/2", {"share_percent": 100}).status == 200
        time.sleep(1)
        assert caller.post(f"{PATH}/versions/1/retire", {"reason": "replaced"}).status == 200
        time.sleep(2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert Counter(status for status, _, _ in answers) == {200: len(answers)}
    assert {(version, str(prediction)) for _, version, prediction in answers} == {
        ("1", "{'y': [[2.0, 10.0]]}"),
        ("2", "{'y': [[3.0, 15.0]]}"),
    }
    assert {version for _, version, _ in answers[-CALLERS:]} == {"2"}
