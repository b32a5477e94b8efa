from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization import quantize_dynamic as with_files

from inference.providers import open_session
from inference.quantize import quantize_dynamic
from tests.inference import hostile

STARTER = Path(__file__).resolve().parents[2] / "inference" / "starter" / "sentiment" / "model.onnx"


def test_it_makes_what_onnx_runtimes_own_tool_makes_by_way_of_files(tmp_path: Path) -> None:
    with_files(STARTER, tmp_path / "theirs.onnx", weight_type=QuantType.QInt8, per_channel=True)
    theirs = (tmp_path / "theirs.onnx").read_bytes()

    ours = quantize_dynamic(STARTER.read_bytes())

    assert ours is not None
    assert _operators(ours) == _operators(theirs)
    feeds = {"ids": np.array([[5, 9, 20, 3]]), "lengths": np.array([4])}
    [mine], [other] = (open_session(model).run(["probability"], feeds) for model in (ours, theirs))
    np.testing.assert_array_equal(mine, other)


def test_the_lstm_is_among_what_is_quantized() -> None:
    made = quantize_dynamic(STARTER.read_bytes())

    assert made is not None
    assert _operators(made)["DynamicQuantizeLSTM"] == 2
    assert len(made) * 3 < STARTER.stat().st_size


def test_nothing_is_made_of_a_model_without_weights() -> None:
    assert quantize_dynamic(hostile.relu().SerializeToString()) is None


def test_no_file_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", lambda *_, **__: pytest.fail("a folder was made"))
    monkeypatch.setattr("onnx.save_model", lambda *_, **__: pytest.fail("a file was written"))
    weights = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    info = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 64])]
    bias = numpy_helper.from_array(np.ones(64, np.float32), "b")
    made = hostile.model(
        nodes, constants=[weights, bias], inputs=info, outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 64])]
    )

    assert quantize_dynamic(made.SerializeToString()) is not None


def _operators(model: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(model).graph.node)
