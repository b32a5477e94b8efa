"""Nested JSON lists to tensors and back: exact, or refused with what is wrong."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inference.datatypes import NUMPY_DATATYPES, find_datatype
from inference.errors import InvalidInput
from inference.nested import parse_tensor, render_tensor
from inference.signature import TensorSpec

NUMBERS = [name for name in NUMPY_DATATYPES if name != "BYTES"]
finite = {"allow_nan": False, "allow_infinity": False}


def spec(datatype: str, *shape: int, **more: Any) -> TensorSpec:
    return TensorSpec("x", datatype, shape, **more)


@given(st.data(), st.sampled_from(NUMBERS), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
def test_what_is_rendered_is_read_back(data: st.DataObject, datatype: str, shape: tuple[int, ...]) -> None:
    kind = NUMPY_DATATYPES[datatype]
    elements = {"elements": finite} if kind.kind == "f" else {}
    sent = data.draw(hnp.arrays(kind, shape, **elements))
    tensor = spec(datatype, *sent.shape)

    shown = orjson.loads(orjson.dumps(render_tensor(sent, tensor, document=orjson.Fragment), option=orjson.OPT_SERIALIZE_NUMPY))
    received = parse_tensor(shown, tensor, param="x")

    assert find_datatype(received) == datatype
    assert received.shape == sent.shape
    assert np.array_equal(received, sent)


def test_texts_are_read_and_rendered() -> None:
    tensor = spec("BYTES", -1, 2)
    received = parse_tensor([["a", "值"], ["", "\x00"]], tensor, param="x")

    assert received.tolist() == [[b"a", "值".encode()], [b"", b"\x00"]]
    assert render_tensor(received, tensor, document=orjson.Fragment) == [["a", "值"], ["", "\x00"]]


@pytest.mark.parametrize(
    ("value", "tensor", "reason"),
    [
        (1.5, spec("INT64"), "wrong_datatype"),
        (True, spec("INT64"), "wrong_datatype"),
        (True, spec("FP32"), "wrong_datatype"),
        ("1", spec("FP32"), "wrong_datatype"),
        (None, spec("FP32"), "wrong_datatype"),
        ({}, spec("FP32"), "wrong_datatype"),
        (1, spec("BOOL"), "wrong_datatype"),
        (1, spec("BYTES"), "wrong_datatype"),
        (256, spec("UINT8"), "out_of_range"),
        (-1, spec("UINT64"), "out_of_range"),
        (2**63, spec("INT64"), "out_of_range"),
        ([1], spec("FP32"), "wrong_shape"),
        (1, spec("FP32", -1), "wrong_shape"),
        ([[1]], spec("FP32", -1), "wrong_shape"),
        ([1, [1]], spec("FP32", -1), "wrong_shape"),
        ([[1, 2], [3]], spec("FP32", -1, -1), "wrong_shape"),
        ([[1, 2], 3], spec("FP32", -1, -1), "wrong_shape"),
        ([[1, 2]], spec("FP32", -1, 3), "wrong_shape"),
        ([[[[[[[[[1]]]]]]]]], spec("FP32", -1, any_rank=True), "wrong_shape"),
        ([[1], [[2]]], spec("FP32", -1, any_rank=True), "wrong_shape"),
    ],
)
def test_nothing_is_rounded_cut_or_guessed(value: Any, tensor: TensorSpec, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_tensor(value, tensor, param="input_data.x")

    assert (refused.value.param, refused.value.reason) == ("input_data.x", reason)


def test_a_number_that_float32_cannot_hold_becomes_infinite_for_the_signature_to_refuse() -> None:
    assert np.isinf(parse_tensor([1e300], spec("FP32", -1), param="x")).all()


def test_any_rank_is_taken_as_it_is_nested() -> None:
    for value in (1.0, [1.0], [[1.0, 2.0]]):
        assert parse_tensor(value, spec("FP32", -1, any_rank=True), param="x").tolist() == value


def test_no_rows_are_no_rows() -> None:
    assert parse_tensor([], spec("FP32", -1, 3), param="x").shape == (0, 3)
    assert parse_tensor([], spec("FP32", -1, -1), param="x").shape == (0, 0)


def test_documents_are_put_in_as_they_are() -> None:
    maps = np.array([b'{"a":1}', b'{"a":2}'], dtype=object)
    shown = render_tensor(maps, spec("BYTES", -1, kind="sequence"), document=json.loads)
    assert shown == [{"a": 1}, {"a": 2}]
    assert render_tensor(np.array(b"null", dtype=object), spec("BYTES", kind="optional"), document=json.loads) is None


def test_what_json_cannot_hold_is_null() -> None:
    assert render_tensor(np.array(np.nan), spec("FP64"), document=orjson.Fragment) is None
    shown = render_tensor(np.array([np.inf, 1], np.float32), spec("FP32", -1), document=orjson.Fragment)
    assert orjson.dumps(shown, option=orjson.OPT_SERIALIZE_NUMPY) == b"[null,1.0]"
