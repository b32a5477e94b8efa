"""The flagship: an LSTM of the size people bring, with reviews of the length people write.

Embedding of 25,002 words x 100, two bidirectional LSTM layers of 256, linear, sigmoid; weights are
random, since what a call costs does not depend on them. The starter model is smaller (hidden 96) and
its snippets shorter, so on it every microsecond of ours weighs more: `make bench` measures both.
"""

import json
import random
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOCABULARY = 25_002
EMBEDDING = 100
HIDDEN = 256
TEXTS = 2_000


def make_flagship(folder: Path) -> None:
    """Write the model with its pipeline, vocabulary and card, ready to publish."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_graph(np.random.default_rng(0)), folder / "model.onnx")
    words = ["<pad>", "<unk>", *(f"w{number}" for number in range(VOCABULARY - 2))]
    (folder / "vocabulary.txt").write_text("\n".join(words) + "\n")
    pipeline = {
        "kind": "text",
        "tokenizer": "words",
        "vocabulary": "vocabulary.txt",
        "pad_id": 0,
        "unknown_id": 1,
        "max_tokens": 512,
        "inputs": {"ids": "ids", "lengths": "lengths"},
        "output": "probability",
        "postprocess": "binary",
        "labels": ["negative", "positive"],
    }
    (folder / "pipeline.json").write_text(json.dumps(pipeline))
    card = {"title": "Flagship", "summary": "Random weights, for measuring.", "task": "text-classification"}
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "card.md").write_text("Random weights, for measuring.\n")


def make_texts(*, seed: int = 20) -> list[str]:
    """Return texts as long as reviews: lognormal, median 42, mean 60, from 4 to 400 tokens."""
    lengths = np.clip(np.random.default_rng(seed).lognormal(3.78, 0.9, TEXTS), 4, 400).astype(int)
    choose = random.Random(seed)
    return [" ".join(f"w{choose.randrange(VOCABULARY - 2)}" for _ in range(length)) for length in lengths]


def _graph(rng: np.random.Generator) -> onnx.ModelProto:
    """Build the graph: time-major LSTMs, whose last states are joined, with every row's length given."""

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.uniform(-0.0625, 0.0625, shape).astype(np.float32), name)

    def lstm(number: int, inputs: str, size: int) -> tuple[list[onnx.TensorProto], onnx.NodeProto]:
        parts = [
            weights(f"W{number}", 2, 4 * HIDDEN, size),
            weights(f"R{number}", 2, 4 * HIDDEN, HIDDEN),
            weights(f"B{number}", 2, 8 * HIDDEN),
        ]
        names = [inputs, *(part.name for part in parts), "steps"]
        outputs = [f"Y{number}", f"H{number}"]
        return parts, helper.make_node("LSTM", names, outputs, hidden_size=HIDDEN, direction="bidirectional")

    first, first_node = lstm(1, "time_major", EMBEDDING)
    second, second_node = lstm(2, "joined", 2 * HIDDEN)
    constants = [
        weights("embedding", VOCABULARY, EMBEDDING),
        *first,
        *second,
        # Widened, so that answers differ by more than a wrong row would.
        numpy_helper.from_array(rng.uniform(-1, 1, (2 * HIDDEN, 1)).astype(np.float32), "head"),
        numpy_helper.from_array(np.array([0, 0, 2 * HIDDEN], np.int64), "both_directions"),
        numpy_helper.from_array(np.array([0, 2 * HIDDEN], np.int64), "row"),
    ]
    nodes = [
        helper.make_node("Cast", ["lengths"], ["steps"], to=TensorProto.INT32),
        helper.make_node("Gather", ["embedding", "ids"], ["embedded"]),
        helper.make_node("Transpose", ["embedded"], ["time_major"], perm=[1, 0, 2]),
        first_node,
        helper.make_node("Transpose", ["Y1"], ["Y1_rows"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["Y1_rows", "both_directions"], ["joined"]),
        second_node,
        helper.make_node("Transpose", ["H2"], ["H2_rows"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["H2_rows", "row"], ["state"]),
        helper.make_node("MatMul", ["state", "head"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "flagship",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows", "time"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["rows"]),
        ],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["rows", 1])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model
