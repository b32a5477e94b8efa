"""Models with tensors, published into a running site: `python -m tests.contract.catalogue` with the site's VAR_DIR.

Prints what the tests need: the secret of a key of the organization that owns the private model.
"""

import json
import tempfile
from pathlib import Path

import django
import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.inference.models import mean_model, write_bundle
from tests.inference.pictures import write as write_colors

# The mirror's inputs and outputs, by the protocol's names.
DATATYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
tensor = helper.make_tensor_value_info


def model_of(nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """Return a checked model."""
    model = helper.make_model(helper.make_graph(nodes, "graph", inputs, outputs), opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model


def mirror() -> onnx.ModelProto:
    """Return every datatype as it came, row by row."""
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in DATATYPES]
    inputs = [tensor(f"in_{name}", kind, ["rows", 2]) for name, kind in DATATYPES.items()]
    outputs = [tensor(f"out_{name}", kind, ["rows", 2]) for name, kind in DATATYPES.items()]
    return model_of(nodes, inputs, outputs)


def nonzero() -> onnx.ModelProto:
    """Return where the input is not zero, `(1, found)`, possibly none, and the sum, a scalar: no rows."""
    nodes = [helper.make_node("NonZero", ["x"], ["where"]), helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0)]
    outputs = [tensor("where", TensorProto.INT64, [1, "found"]), tensor("sum", TensorProto.FLOAT, [])]
    return model_of(nodes, [tensor("x", TensorProto.FLOAT, [4])], outputs)


def long_rows() -> onnx.ModelProto:
    """Return each row 1,000 times over: replies that are worth compressing."""
    nodes = [
        helper.make_node("Constant", [], ["times"], value=helper.make_tensor("t", TensorProto.INT64, [2], [1, 1000])),
        helper.make_node("Tile", ["x", "times"], ["y"]),
    ]
    return model_of(nodes, [tensor("x", TensorProto.FLOAT, ["rows", 1])], [tensor("y", TensorProto.FLOAT, ["rows", 1000])])


def linear() -> onnx.ModelProto:
    """Return `score = 2 a - 3 b` of each row `(a, b)`."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2, 1], [2.0, -3.0])
    nodes = [helper.make_node("Constant", [], ["weights"], value=weights), helper.make_node("MatMul", ["x", "weights"], ["score"])]
    return model_of(nodes, [tensor("x", TensorProto.FLOAT, ["rows", 2])], [tensor("score", TensorProto.FLOAT, ["rows", 1])])


def write_hanzi(folder: Path) -> Path:
    """Write a Chinese model that reads characters: the more of its last ones, the better."""
    write_bundle(folder, mean_model(), tokenizer="characters", labels=["负面", "正面"])
    (folder / "vocabulary.txt").write_text("\n".join(["<pad>", "<unk>", *map(str, range(598)), "好"]) + "\n")  # "好" is 600.
    return folder


def main() -> None:
    """Publish all of them."""
    django.setup()
    from billing.ledger import grant_credit
    from billing.money import Nanos
    from marketplace.keys import KeySettings, issue_key
    from marketplace.publishing import list_model, publish_version
    from marketplace.tenants import found_organization

    acme = found_organization(name="Acme", slug="acme", owner=None, by="test")
    other = found_organization(name="Other", slug="other", owner=None, by="test")
    grant_credit(other.account, Nanos(10**9), kind="operator", reference="test:other", by="test")
    for owner, name, model, unit in (
        (acme, "mirror", mirror(), "row"),
        (acme, "nonzero", nonzero(), "call"),
        (acme, "long-rows", long_rows(), "row"),
        (acme, "linear", linear(), "row"),
        (other, "private", nonzero(), "call"),
    ):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder)
            (source / "model.onnx").write_bytes(model.SerializeToString())
            (source / "card.json").write_text(json.dumps({"title": name, "summary": name, "task": "tensors"}))
            (source / "card.md").write_text(f"# {name}\n")
            entry = list_model(owner=owner, name=name, source=source, public=owner == acme, by="test")
            publish_version(model=entry, source=source, unit=unit, unit_nanos=1000, by="test")
    with tempfile.TemporaryDirectory() as folder:
        for name, source in (("colors", write_colors(Path(folder) / "colors")), ("hanzi", write_hanzi(Path(folder) / "hanzi"))):
            (source / "card.json").write_text(json.dumps({"title": name, "summary": name, "task": "classification"}))
            (source / "card.md").write_text(f"# {name}\n")
            entry = list_model(owner=acme, name=name, source=source, public=True, by="test")
            publish_version(model=entry, source=source, unit="row" if name == "colors" else "token", unit_nanos=1000, by="test")
    print(issue_key(organization=other, name="theirs", settings=KeySettings(), by="test")[1])


# What the mirror is sent: two rows of each.
ROWS = {
    "BOOL": np.array([[True, False], [False, True]]),
    "UINT8": np.array([[0, 255], [1, 2]], np.uint8),
    "UINT16": np.array([[0, 65535], [1, 2]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1], [1, 2]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1], [1, 2]], np.uint64),
    "INT8": np.array([[-128, 127], [1, 2]], np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1], [1, 2]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1], [1, 2]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1], [1, 2]], np.int64),
    "FP16": np.array([[0.5, -65504.0], [1, 2]], np.float16),
    "FP32": np.array([[1.5, -2.25], [3e38, 0]], np.float32),
    "FP64": np.array([[1e308, -1e-308], [0, 1]], np.float64),
    "BYTES": np.array([["good", "\u597d"], ["", "a\tb"]], np.object_),
}


if __name__ == "__main__":
    main()
