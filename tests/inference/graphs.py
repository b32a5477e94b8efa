"""Small graphs without a pipeline: tensors in, tensors out, worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inference.artifacts import Bundle, load_bundle

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
tensor = helper.make_tensor_value_info


def write_raw(folder: Path, model: onnx.ModelProto) -> Bundle:
    """Return the bundle of a folder that holds this model and no pipeline."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return load_bundle(folder, sha256=None)


def graph(nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any], **constants: np.ndarray) -> onnx.ModelProto:
    """Return a checked model of these nodes."""
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(helper.make_graph(nodes, "graph", inputs, outputs, weights), opset_imports=opsets)
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model


def double() -> onnx.ModelProto:
    """Return `y = 2 x`, row by row."""
    x, y = tensor("x", FLOAT, ["n", 3]), tensor("y", FLOAT, ["n", 3])
    return graph([helper.make_node("Mul", ["x", "two"], ["y"])], [x], [y], two=np.array(2, np.float32))


def share_of_all() -> onnx.ModelProto:
    """Return `y = x / sum of all x of the batch`: its rows touch each other."""
    nodes = [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0), helper.make_node("Div", ["x", "sum"], ["y"])]
    return graph(nodes, [tensor("x", FLOAT, ["n", 3])], [tensor("y", FLOAT, ["n", 3])])


def accumulator() -> onnx.ModelProto:
    """Return a step of a recurrence: `state_out = state + x`, `y = state_out * gain`; gain is optional, 10."""
    nodes = [helper.make_node("Add", ["state", "x"], ["state_out"]), helper.make_node("Mul", ["state_out", "gain"], ["y"])]
    inputs = [tensor("x", FLOAT, []), tensor("state", FLOAT, [2]), tensor("gain", FLOAT, [])]
    outputs = [tensor("y", FLOAT, [2]), tensor("state_out", FLOAT, [2])]
    return graph(nodes, inputs, outputs, gain=np.array(10, np.float32))


def shout() -> onnx.ModelProto:
    """Return texts as they came."""
    node = helper.make_node("Identity", ["text"], ["same"])
    return graph([node], [tensor("text", STRING, ["n"])], [tensor("same", STRING, ["n"])])


def zip_map() -> onnx.ModelProto:
    """Return scores as a map per row, as scikit-learn's exporter writes classifiers."""
    node = helper.make_node("ZipMap", ["scores"], ["named"], domain="ai.onnx.ml", classlabels_strings=["no", "yes"])
    value = helper.make_tensor_type_proto(FLOAT, [])
    sequence = helper.make_sequence_type_proto(helper.make_map_type_proto(STRING, value))
    return graph([node], [tensor("scores", FLOAT, ["n", 2])], [helper.make_value_info("named", sequence)])
