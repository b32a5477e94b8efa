"""What the stock client writes is read as it was meant; anything else is refused before an array is made."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from marketplace.errors import HeaderInvalid, RequestMalformed
from marketplace.gateway.oip.requests import RequestedOutput, parse_request

ARRAYS = {
    "BOOL": np.array([[True, False], [False, True]]),
    "UINT8": np.array([[0, 255], [1, 2]], np.uint8),
    "UINT16": np.array([0, 65535], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-(2**15), 2**15 - 1], np.int16),
    "INT32": np.array([[[-(2**31)], [2**31 - 1]]], np.int32),
    "INT64": np.array([-(2**63), 2**63 - 1], np.int64),
    "FP16": np.array([0.5, -65504.0], np.float16),
    "FP32": np.array([[1.5, -2.25, 3e38]], np.float32),
    "FP64": np.array([1e308, -1e-308], np.float64),
    "BYTES": np.array([["good", "\u597d"], ["", "a\tb"]], np.object_),
}


def stock_input(name: str, datatype: str, array: np.ndarray, *, binary: bool) -> InferInput:
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def as_bytes(array: np.ndarray) -> np.ndarray:
    """Texts as they arrive: `bytes` objects."""
    if array.dtype != np.object_:
        return array
    flat = [text.encode() if isinstance(text, str) else text for text in array.ravel().tolist()]
    return np.array([*flat, None], np.object_)[:-1].reshape(array.shape)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("datatype", ARRAYS)
def test_every_datatype_arrives_as_the_stock_client_sent_it(datatype: str, binary: bool) -> None:
    array = ARRAYS[datatype]
    body, header_length = InferenceServerClient.generate_request_body([stock_input("x", datatype, array, binary=binary)])

    read = parse_request(body, str(header_length) if header_length is not None else None)

    arrived = read.inputs["x"]
    assert (arrived.dtype, arrived.shape) == (as_bytes(array).dtype, array.shape)
    assert arrived.tolist() == as_bytes(array).tolist()
    assert read.binary  # The client's default, since no output was named.


def test_binary_and_json_tensors_mix_in_listed_order() -> None:
    first, second, third = (
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array([7, 8], np.int64),
        np.array([b"\xff\x00", b""], np.object_),
    )
    inputs = [
        stock_input("a", "FP32", first, binary=True),
        stock_input("b", "INT64", second, binary=False),
        stock_input("c", "BYTES", third, binary=True),
    ]
    body, header_length = InferenceServerClient.generate_request_body(inputs, request_id="mine", timeout=1500, parameters={"top_k": 2})

    read = parse_request(body, str(header_length))

    assert [read.inputs[name].tolist() for name in "abc"] == [first.tolist(), [7, 8], [b"\xff\x00", b""]]
    assert (read.id, read.timeout_us, read.parameters) == ("mine", 1500, {"top_k": 2})


def test_requested_outputs_are_read() -> None:
    outputs = [InferRequestedOutput("a", binary_data=True), InferRequestedOutput("b", binary_data=False, class_count=3)]
    body, header_length = InferenceServerClient.generate_request_body(
        [stock_input("x", "INT8", ARRAYS["INT8"], binary=True)], outputs=outputs
    )

    read = parse_request(body, str(header_length))

    assert read.outputs == [RequestedOutput("a", binary=True, classes=0), RequestedOutput("b", binary=False, classes=3)]


def test_nested_data_is_the_same_as_flat_data() -> None:
    entry = {"name": "x", "shape": [2, 3], "datatype": "INT32"}
    flat = json.dumps({"inputs": [{**entry, "data": [1, 2, 3, 4, 5, 6]}]}).encode()
    nested = json.dumps({"inputs": [{**entry, "data": [[1, 2, 3], [4, 5, 6]]}]}).encode()

    assert parse_request(flat, None).inputs["x"].tolist() == parse_request(nested, None).inputs["x"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_empty_tensors_and_scalars_are_tensors() -> None:
    inputs = [
        {"name": "none", "shape": [0, 4], "datatype": "FP32", "data": []},
        {"name": "one", "shape": [], "datatype": "INT64", "data": [5]},
        {"name": "nothing", "shape": [0], "datatype": "BYTES", "parameters": {"binary_data_size": 0}},
    ]
    body = json.dumps({"inputs": inputs}).encode()

    read = parse_request(body, str(len(body))).inputs

    assert (read["none"].shape, read["one"].shape, read["one"].item(), read["nothing"].shape) == ((0, 4), (), 5, (0,))


def one(**fields: Any) -> dict[str, Any]:
    """A body of one input, with fields of it replaced."""
    return {"inputs": [{"name": "x", "shape": [2], "datatype": "INT32", "data": [1, 2], **fields}]}


WRONG: list[tuple[Any, str]] = [
    ([], "must be a JSON object"),
    ({}, "inputs must be an array"),
    ({"inputs": []}, "at least one"),
    ({"inputs": {}}, "inputs must be an array"),
    ({"inputs": [5]}, "inputs[0] must be an object"),
    ({**one(), "stream": True}, "stream"),
    ({**one(), "id": 7}, "id must be a text"),
    ({**one(), "parameters": []}, "parameters must be an object"),
    ({**one(), "parameters": {"timeout": -1}}, "parameters.timeout"),
    ({**one(), "parameters": {"timeout": 2**40}}, "parameters.timeout"),
    ({**one(), "parameters": {"timeout": True}}, "parameters.timeout"),
    ({**one(), "parameters": {"binary_data_output": 1}}, "binary_data_output"),
    ({**one(), "parameters": {"sequence_id": 1}}, "sequence_id is not offered"),
    ({"inputs": one()["inputs"] * 2}, "twice"),
    ({"inputs": one()["inputs"] * 65}, "at most 64"),
    (one(name=""), "inputs[0].name"),
    (one(name=None), "inputs[0].name"),
    (one(color="red"), "inputs[0].color"),
    (one(datatype="BF16"), "inputs[0].datatype"),
    (one(datatype=["INT32"]), "inputs[0].datatype"),
    (one(shape=2), "inputs[0].shape"),
    (one(shape=[-1]), "inputs[0].shape"),
    (one(shape=[2.0]), "inputs[0].shape"),
    (one(shape=[True, 2]), "inputs[0].shape"),
    (one(shape=[1] * 9), "inputs[0].shape"),
    (one(shape=[2**28, 2**28]), "inputs[0].shape"),
    (one(shape=[2**70]), "inputs[0].shape"),
    (one(shape=[50_001], datatype="BYTES"), "inputs[0].shape"),
    (one(shape=[3]), "has 2 elements; the shape makes 3"),
    (one(data=5), "inputs[0].data"),
    (one(data=[[1, 2]]), "nested otherwise"),
    (one(data=[[1], 2], shape=[2, 1]), "nested otherwise"),
    (one(data=[[1], [2, 3]], shape=[2, 1]), "nested otherwise"),
    (one(data=[1, [2]]), "no INT32"),
    (one(data=[1, 2.5]), "no INT32"),
    (one(data=[1, True]), "no INT32"),
    (one(data=[1, "2"]), "no INT32"),
    (one(data=[1, None]), "no INT32"),
    (one(data=[1, 2**31]), "cannot hold"),
    (one(data=[-1, 1], datatype="UINT8"), "cannot hold"),
    (one(data=[0, 1], datatype="BOOL"), "no BOOL"),
    (one(data=[1e39, 1], datatype="FP32"), "cannot hold"),
    (one(data=[65536.0, 1], datatype="FP16"), "cannot hold"),
    (one(data=[10**400, 1], datatype="FP64"), ""),
    (one(data=[1, 2], datatype="BYTES"), "must hold texts"),
    (one(parameters={"binary_data_size": 8}), "either data or"),
    ({"inputs": [{"name": "x", "shape": [2], "datatype": "INT32"}]}, "either data or"),
    (one(parameters={"binary_data_size": "8"}), "binary_data_size"),
    (one(parameters={"shared_memory_region": "r"}), "not offered"),
    (one(parameters={"color": 1}), "no parameter"),
    (one(parameters=[]), "parameters must be an object"),
    ({**one(), "outputs": "y"}, "outputs must be an array"),
    ({**one(), "outputs": ["y"]}, "outputs[0] must be an object"),
    ({**one(), "outputs": [{"name": ""}]}, "outputs[0].name"),
    ({**one(), "outputs": [{"name": "y"}, {"name": "y"}]}, "twice"),
    ({**one(), "outputs": [{"name": "y", "shape": []}]}, "outputs[0].shape"),
    ({**one(), "outputs": [{"name": "y", "parameters": {"binary_data": "yes"}}]}, "binary_data"),
    ({**one(), "outputs": [{"name": "y", "parameters": {"classification": -1}}]}, "classification"),
    ({**one(), "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]}, "not offered"),
]


@pytest.mark.parametrize(("body", "told"), WRONG, ids=lambda value: json.dumps(value)[:60] if not isinstance(value, str) else "")
def test_what_is_not_of_the_protocols_form_is_refused_and_named(body: Any, told: str) -> None:
    with pytest.raises(RequestMalformed) as refused:
        parse_request(json.dumps(body).encode(), None)

    assert told in refused.value.detail


def binary(declared: dict[str, Any], raw: bytes, *, size: int | None = None) -> tuple[bytes, str]:
    """A body of one binary input, and its header length."""
    entry = {"name": "x", "parameters": {"binary_data_size": len(raw) if size is None else size}, **declared}
    head = json.dumps({"inputs": [entry]}).encode()
    return head + raw, str(len(head))


@pytest.mark.parametrize(
    ("declared", "raw", "size"),
    [
        ({"shape": [2], "datatype": "INT32"}, b"\0" * 7, None),
        ({"shape": [2], "datatype": "INT32"}, b"\0" * 9, None),
        ({"shape": [2], "datatype": "INT32"}, b"\0" * 9, 8),
        ({"shape": [2], "datatype": "INT32"}, b"\0" * 7, 8),
        # 2 GB are declared and none sent: refused by arithmetic.
        ({"shape": [2**28], "datatype": "FP64"}, b"", 2**31),
        ({"shape": [2], "datatype": "BOOL"}, b"\0\2", None),
        ({"shape": [1], "datatype": "BYTES"}, struct.pack("<I", 2**32 - 1) + b"a", None),
        ({"shape": [1], "datatype": "BYTES"}, b"\1\0", None),
        ({"shape": [2], "datatype": "BYTES"}, struct.pack("<I", 1) + b"a", None),
        ({"shape": [1], "datatype": "BYTES"}, struct.pack("<I", 0) * 2, None),
        ({"shape": [0], "datatype": "BYTES"}, b"\0\0\0\0", None),
    ],
)
def test_binary_data_that_is_not_what_its_shape_says_is_refused(declared: dict[str, Any], raw: bytes, size: int | None) -> None:
    with pytest.raises(RequestMalformed):
        parse_request(*binary(declared, raw, size=size))


@pytest.mark.parametrize("length", ["", "-1", "x", "1e2", "99999", "\u0661", "9" * 30])
def test_a_header_length_that_cannot_be_is_refused(length: str) -> None:
    with pytest.raises(HeaderInvalid):
        parse_request(json.dumps(one()).encode(), length)


def test_json_that_our_strict_parser_refuses_is_refused_here_too() -> None:
    for body in (
        b"",
        b"[" * 20_000,
        b'{"inputs": [], "inputs": []}',
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [NaN]}]}',
    ):
        with pytest.raises(RequestMalformed):
            parse_request(body, None)
