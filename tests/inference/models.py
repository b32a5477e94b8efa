"""Small models with the starter model's signature (`ids`, `lengths` -> `probability`), made to behave or not."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inference.artifacts import Bundle, load_bundle

PAD, UNKNOWN = 0, 1
# What `failing_model` fails on, what `slow_model` is slow on.
POISON = 7
WORDS = ("<pad>", "<unk>", "good", "bad", "film", "fun", "dull", "poison", "!")
PIPELINE = {
    "kind": "text",
    "tokenizer": "words",
    "vocabulary": "vocabulary.txt",
    "pad_id": PAD,
    "unknown_id": UNKNOWN,
    "max_tokens": 512,
    "inputs": {"ids": "ids", "lengths": "lengths"},
    "output": "probability",
    "postprocess": "binary",
    "labels": ["negative", "positive"],
}


def write_bundle(folder: Path, model: onnx.ModelProto, **pipeline: object) -> Bundle:
    """Return the bundle of a folder that now holds this model, its pipeline and the vocabulary above."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "vocabulary.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "pipeline.json").write_text(json.dumps(PIPELINE | pipeline))
    return load_bundle(folder, sha256=None)


def mean_model() -> onnx.ModelProto:
    """Return a model that answers `sum(ids) / 1000` of each row, padding (0) adding nothing: worked by hand."""
    nodes = [
        helper.make_node("Cast", ["ids"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "axis"], ["sum"], keepdims=1),
        *_with_lengths("sum", "total"),
        helper.make_node("Div", ["total", "thousand"], ["probability"]),
    ]
    return _model(nodes, axis=np.array([1]), thousand=np.array(1000, np.float32))


def failing_model() -> onnx.ModelProto:
    """Return `mean_model`, but a row that holds POISON fails its whole batch: a Gather out of range."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["real"]),
        helper.make_node("ReduceSum", ["real", "axis"], ["sum"], keepdims=1),
        *_with_lengths("sum", "total"),
        helper.make_node("Div", ["total", "thousand"], ["probability"]),
    ]
    table = np.arange(POISON, dtype=np.float32)
    return _model(nodes, axis=np.array([1]), thousand=np.array(1000, np.float32), table=table)


def slow_model(*, steps_per_id: int = 20_000) -> onnx.ModelProto:
    """Return a model whose time grows with the largest id of the batch: it loops `steps_per_id` times that often.

    A step takes about 2 us, so an id of 5 takes some 0.2 s and an id of a million hangs.
    """
    body = helper.make_graph(
        [
            helper.make_node("Add", ["carried", "one"], ["added"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("added", TensorProto.FLOAT, []),
        ],
        [numpy_helper.from_array(np.array(1, np.float32), "one")],
    )
    nodes = [
        helper.make_node("ReduceMax", ["ids"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "steps_per_id"], ["steps"]),
        helper.make_node("Loop", ["steps", "", "zero"], ["looped"], body=body),
        helper.make_node("Cast", ["ids"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "axis"], ["sum"], keepdims=1),
        *_with_lengths("sum", "total"),
        helper.make_node("Div", ["total", "thousand"], ["scaled"]),
        # The loop must be part of the answer, or ONNX Runtime leaves it out.
        helper.make_node("Mul", ["looped", "zero"], ["nothing"]),
        helper.make_node("Add", ["scaled", "nothing"], ["probability"]),
    ]
    return _model(
        nodes,
        axis=np.array([1]),
        thousand=np.array(1000, np.float32),
        zero=np.array(0, np.float32),
        steps_per_id=np.array(steps_per_id),
    )


def hungry_model() -> onnx.ModelProto:
    """Return `mean_model`, but 4 MB of memory are filled for each unit of the batch's largest id."""
    nodes = [
        helper.make_node("ReduceMax", ["ids"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "million"], ["elements"]),
        helper.make_node("Unsqueeze", ["elements", "first_axis"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["filled"]),
        helper.make_node("ReduceSum", ["filled"], ["nothing"], keepdims=0),
        helper.make_node("Cast", ["ids"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "axis"], ["sum"], keepdims=1),
        *_with_lengths("sum", "total"),
        helper.make_node("Div", ["total", "thousand"], ["scaled"]),
        helper.make_node("Add", ["scaled", "nothing"], ["probability"]),
    ]
    return _model(
        nodes,
        axis=np.array([1]),
        first_axis=np.array([0]),
        thousand=np.array(1000, np.float32),
        million=np.array(2**20),
    )


def _with_lengths(name: str, result: str) -> list[onnx.NodeProto]:
    """Nodes that use `lengths` without changing the value: ONNX Runtime drops an input that nothing uses."""
    return [
        helper.make_node("Cast", ["lengths"], ["lengths_real"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["lengths_real", "lengths_real"], ["lengths_zero"]),
        helper.make_node("Unsqueeze", ["lengths_zero", "axis"], ["lengths_column"]),
        helper.make_node("Add", [name, "lengths_column"], [result]),
    ]


def _model(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "model",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "time"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch"]),
        ],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model
