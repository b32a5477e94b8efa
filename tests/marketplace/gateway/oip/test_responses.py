"""The stock client reads back exactly the arrays that were rendered, in every datatype and both forms."""

import json
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferResult

from inference.errors import InvalidInput, ModelFailed
from marketplace.gateway.oip.requests import RequestedOutput
from marketplace.gateway.oip.responses import Output, classify, render_response
from marketplace.gateway.replies import Reply

ARRAYS = [
    np.array([[True, False]]),
    *(np.array([[0], [np.iinfo(kind).max]], kind) for kind in (np.uint8, np.uint16, np.uint32, np.uint64)),
    *(np.array([np.iinfo(kind).min, np.iinfo(kind).max], kind) for kind in (np.int8, np.int16, np.int32, np.int64)),
    np.array([0.5, -65504], np.float16),
    np.array([[1.5, 3e38]], np.float32),
    np.array([1e308], np.float64),
    np.array([[b"a", "\u597d".encode()], [b"", b"x"]], np.object_),
    np.zeros((0, 3), np.float32),
    np.array(7, np.int64),
    np.arange(6, dtype=np.float32).reshape(2, 3).T,  # Not contiguous.
]


def read_back(reply: Reply) -> InferResult:
    lengths = {name: value for name, value in reply.headers if name == b"inference-header-content-length"}
    header_length = int(next(iter(lengths.values()))) if lengths else None
    return InferenceServerClient.parse_response_body(reply.body, header_length=header_length)


def rendered(*outputs: Output, identity: str | None = None) -> Reply:
    return render_response(model="acme/net", version=3, identity=identity, outputs=outputs)


def wanted(name: str, *, binary: bool = True, classes: int = 0) -> RequestedOutput:
    return RequestedOutput(name, binary=binary, classes=classes)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_the_stock_client_reads_back_what_was_rendered(array: np.ndarray, binary: bool) -> None:
    result = read_back(rendered(Output(wanted("y", binary=binary), array)))

    read = result.as_numpy("y")
    expected = array.tolist() if binary or array.dtype != np.object_ else [[text.decode() for text in row] for row in array.tolist()]
    assert (read.shape, read.tolist()) == (array.shape, expected)
    assert read.dtype == array.dtype.newbyteorder("=")
    assert result.get_output("y")["shape"] == list(array.shape)


def test_several_outputs_keep_their_order_and_their_form() -> None:
    first, second, third = np.arange(4, dtype=np.float32), np.array([b"text"], np.object_), np.zeros((0,), np.int8)

    reply = rendered(Output(wanted("a"), first), Output(wanted("b", binary=False), second), Output(wanted("c"), third), identity="mine")

    result = read_back(reply)
    assert [result.as_numpy(name).tolist() for name in "abc"] == [[0, 1, 2, 3], ["text"], []]
    head = json.loads(reply.body[: reply.text_bytes])
    assert (head["model_name"], head["model_version"], head["id"]) == ("acme/net", "3", "mine")
    assert [output.get("parameters") for output in head["outputs"]] == [{"binary_data_size": 16}, None, {"binary_data_size": 0}]


def test_json_has_neither_nan_nor_infinity_so_they_are_null() -> None:
    reply = rendered(Output(wanted("y", binary=False), np.array([np.nan, np.inf, 1.0], np.float32)))

    assert json.loads(reply.body)["outputs"][0]["data"] == [None, None, 1.0]
    assert np.isnan(read_back(reply).as_numpy("y")).tolist() == [True, True, False]


def test_bytes_that_are_no_text_are_refused_as_json() -> None:
    with pytest.raises(InvalidInput) as refused:
        rendered(Output(wanted("y", binary=False), np.array([b"\xff"], np.object_)))

    assert refused.value.param == "y"


def test_an_array_that_cannot_be_sent_is_no_answer() -> None:
    with pytest.raises(ModelFailed):
        rendered(Output(wanted("y"), np.zeros(1, np.complex64)))
    with pytest.raises(ModelFailed):
        rendered(Output(wanted("y"), np.zeros(1, ">i4")))


SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], np.float32)


@pytest.mark.parametrize(
    ("array", "classes", "by_row", "labels", "expected"),
    [
        (SCORES, 2, True, ("a", "b", "c"), [[b"0.700000:1:b", b"0.200000:2:c"], [b"0.500000:0:a", b"0.250000:1:b"]]),
        (SCORES, 1, True, (), [[b"0.700000:1"], [b"0.500000:0"]]),
        (SCORES, 9, True, ("too", "few"), [[b"0.700000:1", b"0.200000:2", b"0.100000:0"], [b"0.500000:0", b"0.250000:1", b"0.250000:2"]]),
        (SCORES[0], 1, False, ("a", "b", "c"), [b"0.700000:1:b"]),
        (SCORES, 1, False, (), [b"0.700000:1"]),
        (np.array([3, -5, 9], np.int64), 2, False, (), [b"9:2", b"3:0"]),
        (np.array(4, np.uint8), 1, True, (), [b"4:0"]),
        (np.zeros((2, 0), np.float32), 1, True, (), [[], []]),
    ],
)
def test_classification_names_the_highest_first(array: np.ndarray, classes: int, by_row: bool, labels: Any, expected: Any) -> None:
    assert classify(array, classes, by_row=by_row, labels=labels, name="y").tolist() == expected


def test_what_is_no_number_is_not_classified() -> None:
    for array in (np.array([b"a"], np.object_), np.array([True])):
        with pytest.raises(InvalidInput):
            classify(array, 1, by_row=True, labels=(), name="y")
