"""What a graph takes and gives, and what of a caller's is refused for it."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inference.datatypes import NUMPY_DATATYPES
from inference.errors import InvalidInput, ModelLoadFailed
from inference.graph import read_signature
from inference.signature import Signature, TensorSpec
from tests.inference.graphs import FLOAT, INT64, accumulator, double, graph, shout, tensor, zip_map


def read(model: onnx.ModelProto) -> Signature:
    return read_signature(model.SerializeToString())


def identity(*inputs: Any) -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", [value.name], [f"{value.name}_out"]) for value in inputs]
    outputs = [onnx.ValueInfoProto() for _ in inputs]
    for output, value in zip(outputs, inputs, strict=True):
        output.CopyFrom(value)
        output.name = f"{value.name}_out"
    return graph(nodes, list(inputs), outputs)


def test_a_signature_names_datatypes_and_shapes_in_the_graphs_order() -> None:
    signature = read(accumulator())

    assert signature.inputs == (
        TensorSpec("x", "FP32", ()),
        TensorSpec("state", "FP32", (2,)),
        TensorSpec("gain", "FP32", (), optional=True),
    )
    assert signature.outputs == (TensorSpec("y", "FP32", (2,)), TensorSpec("state_out", "FP32", (2,)))
    assert not signature.has_rows


@pytest.mark.parametrize(("element", "name"), [(getattr(TensorProto, onnx_name), name) for onnx_name, name in [
    ("BOOL", "BOOL"), ("UINT8", "UINT8"), ("UINT16", "UINT16"), ("UINT32", "UINT32"), ("UINT64", "UINT64"), ("INT8", "INT8"),
    ("INT16", "INT16"), ("INT32", "INT32"), ("INT64", "INT64"), ("FLOAT16", "FP16"), ("FLOAT", "FP32"), ("DOUBLE", "FP64"),
    ("STRING", "BYTES"),
]])  # fmt: skip
def test_every_datatype_of_the_protocol_is_read(element: int, name: str) -> None:
    [spec] = read(identity(tensor("x", element, [1]))).inputs

    assert spec.datatype == name
    assert name in NUMPY_DATATYPES


@pytest.mark.parametrize(
    ("dims", "has_rows"),
    [
        ([["n", 3]], True),
        ([[None, 3]], True),
        ([["n", 3], ["n"]], True),
        ([["n", 3], ["m"]], False),
        ([["n", 3], []], False),
        ([["n", 3], [2, "n"]], False),
        ([[1, 3]], False),
    ],
    ids=str,
)
def test_rows_are_a_first_dimension_that_all_inputs_share(dims: list[list[Any]], has_rows: bool) -> None:
    inputs = [tensor(f"x{number}", FLOAT, shape) for number, shape in enumerate(dims)]

    assert read(identity(*inputs)).has_rows is has_rows


def test_a_shape_that_the_graph_does_not_tell_is_any() -> None:
    model = double()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    [spec] = read(model).inputs

    assert spec.any_rank
    assert spec.fits(())
    assert spec.fits((2, 3))
    assert not spec.fits((1,) * 9)


def test_outputs_that_are_no_tensors_have_a_kind_of_their_own() -> None:
    assert read(zip_map()).outputs == (TensorSpec("named", "BYTES", (-1,), kind="sequence"),)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (helper.make_tensor_sequence_value_info("x", FLOAT, [1]), "only tensors"),
        (tensor("x", TensorProto.BFLOAT16, [1]), "BFLOAT16"),
        (tensor("x", TensorProto.COMPLEX64, [1]), "COMPLEX64"),
        (tensor("x", FLOAT, [1] * 9), "9 dimensions"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_the_reason(value: Any, reason: str) -> None:
    model = identity(value)

    with pytest.raises(ModelLoadFailed, match=reason):
        read(model)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x09" * 50, b"\xff" * 9])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(ModelLoadFailed):
        read_signature(content)


def test_a_signature_survives_json() -> None:
    for model in (accumulator(), zip_map(), double()):
        signature = read(model)
        assert Signature.from_json(signature.as_json()) == signature


@pytest.mark.parametrize("fields", [{}, {"inputs": [], "outputs": 3, "has_rows": True}, {"inputs": [{}], "outputs": [], "has_rows": False}])
def test_what_is_no_signature_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ModelLoadFailed, match="not a signature"):
        Signature.from_json(fields)


GOOD = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("inputs", "param", "reason"),
    [
        ({}, "inputs.x", "missing_input"),
        ({"x": GOOD, "z": GOOD}, "inputs.z", "unknown_input"),
        ({"x": GOOD.astype(np.float64)}, "inputs.x", "wrong_datatype"),
        ({"x": np.zeros((2, 3), np.complex64)}, "inputs.x", "wrong_datatype"),
        ({"x": GOOD[0]}, "inputs.x", "wrong_shape"),
        ({"x": np.zeros((2, 4), np.float32)}, "inputs.x", "wrong_shape"),
        ({"x": np.full((1, 3), np.nan, np.float32)}, "inputs.x", "not_finite"),
        ({"x": np.full((1, 3), -np.inf, np.float32)}, "inputs.x", "not_finite"),
    ],
)
def test_inputs_that_the_graph_does_not_take_are_refused_by_name(inputs: dict[str, Any], param: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(double()).check_inputs(inputs)

    assert (refused.value.param, refused.value.reason) == (param, reason)


def test_a_version_may_allow_what_is_not_finite() -> None:
    read(double()).check_inputs({"x": np.full((1, 3), np.nan, np.float32)}, allow_nonfinite=True)


@pytest.mark.parametrize(("element", "reason"), [("text", "wrong_datatype"), (3, "wrong_datatype"), (b"\xff", "wrong_encoding")])
def test_texts_are_bytes_of_utf_8(element: Any, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(shout()).check_inputs({"text": np.array([element], dtype=object)})

    assert refused.value.reason == reason


def test_an_optional_input_may_be_left_out_or_sent_but_not_wrong() -> None:
    signature = read(accumulator())
    given = {"x": np.float32(1).reshape(()), "state": np.zeros(2, np.float32)}

    signature.check_inputs(given)
    signature.check_inputs(given | {"gain": np.array(2, np.float32)})
    with pytest.raises(InvalidInput):
        signature.check_inputs(given | {"gain": np.zeros(2, np.float32)})


@pytest.mark.parametrize("names", [[], ["y", "y"], ["nothing"]])
def test_outputs_are_asked_for_by_name_once(names: list[str]) -> None:
    with pytest.raises(InvalidInput):
        read(double()).check_outputs(names)


def test_the_schema_says_what_each_tensor_holds() -> None:
    schema = read(double()).json_schema()["properties"]["input_data"]
    assert schema["required"] == ["x"]
    assert schema["properties"]["x"] == {
        "description": "FP32 [-1, 3]",
        "type": "array",
        "items": {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3},
    }

    integers = read(identity(tensor("x", TensorProto.UINT8, []), tensor("i", INT64, [1]))).json_schema()["properties"]["input_data"]
    assert integers["properties"]["x"] == {"description": "UINT8 []", "type": "integer", "minimum": 0, "maximum": 255}
    assert read(accumulator()).json_schema()["properties"]["input_data"]["required"] == ["x", "state"]


def test_an_example_has_the_least_shape_or_there_is_none() -> None:
    assert read(double()).example() == {"input_data": {"x": [[0.0, 0.0, 0.0]]}}
    assert read(accumulator()).example() == {"input_data": {"x": 0.0, "state": [0.0, 0.0]}}
    assert read(shout()).example() == {"input_data": {"text": [""]}}
    assert read(identity(tensor("x", FLOAT, [1, 28, 28]))).example() is None


@pytest.mark.parametrize(
    ("inputs", "given", "rows", "tokens"),
    [
        ([tensor("x", FLOAT, ["n", 3])], {"x": (5, 3)}, 5, 5),
        ([tensor("x", FLOAT, ["n", "t", 3])], {"x": (5, 7, 3)}, 5, 35),
        ([tensor("x", FLOAT, ["n", 3, "h", "w"])], {"x": (2, 3, 8, 9)}, 2, 16),
        ([tensor("x", FLOAT, ["t"]), tensor("state", FLOAT, [2])], {"x": (160,), "state": (2,)}, 1, 160),
        ([tensor("x", FLOAT, [1, "t"]), tensor("rate", INT64, [])], {"x": (1, 512), "rate": ()}, 1, 512),
        ([tensor("x", FLOAT, ["n", 3])], {"x": (0, 3)}, 1, 1),
        ([tensor("x", FLOAT, [])], {"x": ()}, 1, 1),
    ],
    ids=str,
)
def test_a_call_is_measured_by_its_rows_and_time_steps(inputs: list[Any], given: dict[str, Any], rows: int, tokens: int) -> None:
    signature = read(identity(*inputs))
    arrays = {spec.name: np.zeros(given[spec.name], NUMPY_DATATYPES[spec.datatype]) for spec in signature.inputs}

    measure = signature.measure(arrays)

    assert (measure.rows, measure.tokens) == (rows, tokens)


@pytest.mark.parametrize(("lengths", "tokens"), [([3, 4], 7), ([0, -5], 2), ([2**62, 1], 2**20 + 1)])
def test_a_lengths_input_says_how_many_tokens_there_are_within_reason(lengths: list[int], tokens: int) -> None:
    signature = read(identity(tensor("ids", INT64, ["n", "t"]), tensor("lengths", INT64, ["n"])))

    assert signature.measure({"ids": np.zeros((2, 9), np.int64), "lengths": np.array(lengths)}).tokens == tokens
