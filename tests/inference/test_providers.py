"""CUDA asked for, verified and told, with a session that says what a GPU's would; and without one, the truth."""

import asyncio
import json
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from inference import devices, pool, providers, session
from inference.artifacts import load_bundle
from inference.errors import ModelFailed
from inference.graph import read_signature
from inference.pool import WorkerSettings
from inference.providers import CPU, CUDA, Gpu, find_cuda_fault, find_placement, load_cuda_libraries, open_session, run_bound
from tests.inference.graphs import graph, tensor
from tests.inference.models import mean_model, write_bundle
from tests.inference.running import answer, ids, infer, running

STARTER = Path(__file__).resolve().parents[2] / "inference" / "starter" / "sentiment"
has_gpu = devices.count_gpus() > 0
without_gpu = pytest.mark.skipif(has_gpu, reason="this machine has a GPU: make bench PROVIDER=cuda")


class Binding:
    """What a GPU's session binds, on the CPU's."""

    def __init__(self, real: Any, log: list[str]) -> None:
        self._real, self._log = real.io_binding(), log
        self.real = self._real

    def bind_cpu_input(self, name: str, array: np.ndarray) -> None:
        self._log.append(f"in {name}")
        self._real.bind_cpu_input(name, array)

    def bind_output(self, name: str) -> None:
        self._log.append(f"out {name}")
        self._real.bind_output(name)

    def copy_outputs_to_cpu(self) -> list[np.ndarray]:
        return self._real.copy_outputs_to_cpu()


class CudaSession:
    """A session on the CPU that says that it is on a GPU, but for its shapes."""

    def __init__(self, model: bytes, options: Any, *, providers: list[Any]) -> None:
        self.asked = providers
        self.real = ort.InferenceSession(model, options, providers=[CPU])
        self.log: list[str] = []

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        parts = self.real.get_provider_graph_assignment_info()
        return [
            SimpleNamespace(ep_name=CPU if node.op_type == "Shape" else CUDA, get_nodes=lambda node=node: [node])
            for part in parts
            for node in part.get_nodes()
        ]

    def io_binding(self) -> Binding:
        return Binding(self.real, self.log)

    def run_with_iobinding(self, binding: Binding) -> None:
        self.log.append("run bound")
        self.real.run_with_iobinding(binding.real)

    def run(self, names: list[str] | None, feeds: dict[str, Any]) -> list[Any]:
        self.log.append("run")
        return self.real.run(names, feeds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    double = SimpleNamespace(**{name: getattr(ort, name) for name in dir(ort) if not name.startswith("_")})
    double.InferenceSession = CudaSession
    monkeypatch.setattr(providers, "ort", double)


def load_starter(gpu: Gpu | None) -> session.Session:
    bundle = load_bundle(STARTER, sha256=None)
    assert bundle.pipeline
    return session.Session(bundle.path.read_bytes(), collation=bundle.pipeline.collation, signature=bundle.signature, gpu=gpu)


def test_cuda_is_asked_for_with_a_bound_of_memory_on_the_workers_own_gpu(on_gpu: None) -> None:
    opened = open_session((STARTER / "model.onnx").read_bytes(), gpu=Gpu(number=1, model_memory_bytes=2**30))

    (name, options), fallback = opened.asked
    assert (name, fallback) == (CUDA, CPU)
    assert (options["device_id"], options["gpu_mem_limit"], options["use_tf32"]) == ("1", str(2**30), "0")
    assert open_session((STARTER / "model.onnx").read_bytes()).asked == [CPU]


def test_a_session_on_a_gpu_tells_its_provider_and_the_nodes_that_stayed_on_the_cpu(on_gpu: None) -> None:
    loaded = load_starter(Gpu())

    assert loaded.placement.provider == "cuda"
    assert loaded.placement.cpu_operators == Counter({"Shape": 4})
    assert loaded.placement.name_cpu_operators(20) == ["Shape"]
    assert (loaded.placement.cpu_nodes, loaded.placement.nodes) == (4, 43)


def test_a_session_on_a_gpu_binds_its_inputs_and_answers_as_one_on_the_cpu(on_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_starter(Gpu())
    log = loaded._session.log
    log.clear()
    flat, lengths = ids(5, 6, 7, 8, 9), ids(2, 3)

    bound = loaded.run(flat, lengths)

    assert log == ["in ids", "in lengths", "out probability", "run bound"]
    monkeypatch.undo()
    assert np.array_equal(bound, load_starter(None).run(flat, lengths))


def test_texts_are_not_bound(on_gpu: None) -> None:
    model = graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", TensorProto.STRING, ["rows"])],
        [tensor("y", TensorProto.STRING, ["rows"])],
    )
    loaded = session.Session(model.SerializeToString(), collation=None, signature=read_signature(model.SerializeToString()), gpu=Gpu())
    loaded._session.log.clear()

    (answered,) = loaded.run_tensors([{"x": np.array([b"a", b"b"], dtype=object)}], []) or []

    assert answered["y"].tolist() == [b"a", b"b"]
    assert loaded._session.log == ["run"]


def test_a_failed_run_on_a_gpu_is_a_typed_failure(on_gpu: None) -> None:
    loaded = load_starter(Gpu())

    with pytest.raises(ModelFailed):
        loaded.run(ids(10**9), ids(1))  # Beyond the vocabulary.


def test_binding_gives_what_a_plain_run_gives() -> None:
    plain = open_session((STARTER / "model.onnx").read_bytes())
    feeds = {"ids": np.array([[5, 6, 7]]), "lengths": ids(3)}

    (bound,) = run_bound(plain, ["probability"], feeds)

    assert np.array_equal(bound, plain.run(["probability"], feeds)[0])


def test_on_the_cpu_every_node_is_the_cpus() -> None:
    placement = find_placement(open_session((STARTER / "model.onnx").read_bytes()))

    assert placement.provider == "cpu"
    assert placement.nodes == placement.cpu_nodes == 43
    assert placement.cpu_operators["LSTM"] == 2


@without_gpu
def test_without_a_gpu_a_session_that_asks_for_one_says_cpu_and_why(capfd: pytest.CaptureFixture[str]) -> None:
    placement = find_placement(open_session((STARTER / "model.onnx").read_bytes(), gpu=Gpu()))
    capfd.readouterr()

    fault = find_cuda_fault(Gpu())

    assert placement.provider == "cpu"
    assert fault
    assert ".so" in fault
    assert capfd.readouterr().err == ""  # Collected, and given back afterwards.
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


@without_gpu
def test_a_library_that_is_missing_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    fault = load_cuda_libraries()

    assert fault
    assert "libcuda.so.1" in fault
    assert capfd.readouterr().out == ""


def test_the_probe_is_the_model_that_it_says() -> None:
    model = onnx.load_from_string(providers._PROBE)

    (node,), (weights,) = model.graph.node, model.graph.initializer
    assert (node.op_type, list(node.input), list(weights.float_data)) == ("MatMul", ["x", "w"], [1.0, 1.0])
    assert model.opset_import[0].version == 17


def test_gpus_are_counted_by_their_device_files_and_by_what_may_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia-caps", "null"):
        (tmp_path / name).touch()
    monkeypatch.setattr(devices, "_DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.count_gpus() == 3
    assert (devices.expects_cuda(), devices.expects_cuda("cpu")) == (True, False)

    for visible, count in {"1": 1, "0,2": 2, "": 0, "-1": 0, "0,1,2,3,4": 3}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert devices.count_gpus() == count, visible
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert (devices.expects_cuda(), devices.expects_cuda("cuda")) == (False, True)


@without_gpu
def test_a_worker_told_to_use_a_gpu_that_is_not_there_serves_on_the_cpu_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def told() -> None:
        bundle = write_bundle(tmp_path, mean_model())
        async with running(settings=WorkerSettings(device="cuda")) as engine:
            inferred = await infer(engine, bundle, ids(2, 3))
            stats = engine.stats()
        assert answer(inferred) == [5]
        assert (inferred.provider, stats.provider) == ("cpu", "cpu")
        assert (stats.asks_cuda, stats.cpu_workers) == (True, 1)
        (version,) = stats.versions
        assert version.figures.nodes == version.figures.cpu_nodes > 0

    asyncio.run(told())

    assert "asked for CUDA and runs on the CPU: libcuda.so.1" in caplog.text


@without_gpu
def test_a_worker_that_asks_for_no_gpu_has_nothing_to_say_of_one() -> None:
    async def told() -> None:
        async with running() as engine:
            stats = engine.stats()
        assert (stats.asks_cuda, stats.cpu_workers) == (False, 0)

    asyncio.run(told())


def test_workers_take_turns_on_the_gpus_and_keep_the_drivers_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvidia0", "nvidia1"):
        (tmp_path / name).touch()
    monkeypatch.setattr(devices, "_DEVICES", tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/driver")
    monkeypatch.setenv("SECRET", "x")
    started: list[tuple[list[str], dict[str, str]]] = []

    monkeypatch.setattr(pool.subprocess, "Popen", lambda command, *, env, **_: started.append((command, env)))
    for index in range(3):
        pool.spawn(0, index=index, settings=WorkerSettings(device="auto"))
    pool.spawn(0, index=0, settings=WorkerSettings(device="cpu"))

    assert [json.loads(command[-1])["gpu"] for command, _ in started] == [0, 1, 0, 0]
    assert [env.get("LD_LIBRARY_PATH") for _, env in started] == ["/driver"] * 3 + [None]
    assert not any("SECRET" in env for _, env in started)
