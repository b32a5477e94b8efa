"""A model of colors with its image pipeline, and pictures to send it."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from PIL import Image

from tests.inference.graphs import graph, tensor

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
FIELDS: dict[str, Any] = {
    "kind": "image", "input": "image", "output": "logits", "color": "rgb", "height": 8, "width": 6, "resize": "stretch", "scale": 255,
    "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "layout": "nchw", "postprocess": "softmax", "labels": ["red", "green", "blue"],
}  # fmt: skip


def colors() -> bytes:
    """Return a model whose logits are three times each color's mean, of `(rows, 3, 8, 6)`."""
    nodes = [
        helper.make_node("ReduceMean", ["image", "sides"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "three"], ["logits"]),
    ]
    image, logits = tensor("image", TensorProto.FLOAT, ["rows", 3, 8, 6]), tensor("logits", TensorProto.FLOAT, ["rows", 3])
    return graph(nodes, [image], [logits], sides=np.array([2, 3]), three=np.array(3, np.float32)).SerializeToString()


def write(folder: Path, **fields: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(colors())
    (folder / "pipeline.json").write_text(json.dumps(FIELDS | fields))
    return folder


def picture(color: tuple[int, ...], *, size: tuple[int, int] = (20, 10), mode: str = "RGB", kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, color if len(color) > 1 else color[0]).save(file, kind)
    return file.getvalue()


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()
