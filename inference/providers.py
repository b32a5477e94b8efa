"""Open models with ONNX Runtime, on the execution provider that was asked for, and tell which one really runs."""

import base64
import contextlib
import ctypes
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

# Since 1.29 ONNX Runtime sends telemetry from Linux unless told otherwise before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["ORT_TELEMETRY_DISABLED"] = "1"

import numpy as np
import onnxruntime as ort

from inference.arrays import Arrays

Provider = Literal["cpu", "cuda"]

CUDA: Final = "CUDAExecutionProvider"
CPU: Final = "CPUExecutionProvider"
_FATAL_ONLY: Final = 4
# What ONNX Runtime's CUDA provider is linked with, or opens at the first kernel that needs it; the
# number is that of the CUDA it was built with.
_CUDA_LIBRARIES: Final = (
    "libcuda.so.1",
    "libcudart.so.{cuda}",
    "libcublasLt.so.{cuda}",
    "libcublas.so.{cuda}",
    "libcurand.so.10",
    "libcudnn.so.9",
)
_NO_GPU: Final = "ONNX Runtime did not start its CUDA provider"
# x @ [[1], [1]]: one node, and the library that most models use (opset 17; tests/inference/test_providers.py makes it).
_PROBE: Final = base64.b64decode(
    b"CAk6VQoRCgF4CgF3EgF5IgZNYXRNdWwSAXAqEwgCCAEQASIIAACAPwAAgD9CAXdaEwoBeBIOCgwIARIICgIIAQoCCAJiEwoBeRIOCgwIARIICgIIAQoCCAFCBAoAEBE="
)
# A fault's text goes to a log line and the worker's report.
_MAX_FAULT_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as one worker uses it."""

    number: int = 0  # As CUDA counts those that the process may see.
    model_memory_bytes: int = 4 * 2**30  # Most that one model's weights and runs may take of it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a session's nodes are."""

    provider: Provider  # "cuda" only if the session itself says that it has CUDA.
    nodes: int
    cpu_operators: Counter[str]  # Operators of the nodes on the CPU, by how many: all of them where CUDA was not had.

    @property
    def cpu_nodes(self) -> int:
        """How many nodes are on the CPU."""
        return self.cpu_operators.total()

    def name_cpu_operators(self, most: int) -> list[str]:
        """Return the operators on the CPU, the most frequent first."""
        # Not `most_common`, which imports a module: in the sandbox there is none to be read.
        return sorted(self.cpu_operators, key=lambda operator: -self.cpu_operators[operator])[:most]


def open_session(model: bytes | memoryview, *, gpu: Gpu | None = None) -> Any:
    """Return a session that asks for a GPU, or is on the CPU.

    Asked for CUDA that it cannot have, ONNX Runtime runs on the CPU without an error: `find_placement` tells.

    Raises:
        Exception: ONNX Runtime's, where it refuses the model.
    """
    providers = [CPU] if gpu is None else [(CUDA, _cuda_options(gpu)), CPU]
    return ort.InferenceSession(bytes(model), _session_options(), providers=providers)


def find_placement(session: Any) -> Placement:
    """Return where a session's nodes really are.

    Some of a graph's nodes belong on the CPU even with a GPU: those that compute shapes.
    """
    placed = [(part.ep_name, node.op_type) for part in session.get_provider_graph_assignment_info() for node in part.get_nodes()]
    return Placement(
        provider="cuda" if CUDA in session.get_providers() else "cpu",
        nodes=len(placed),
        cpu_operators=Counter(operator for provider, operator in placed if provider == CPU),
    )


def run_bound(session: Any, names: Sequence[str], feeds: Arrays) -> list[Any]:
    """Run a session with its inputs copied to the GPU, ahead of the run, by the nodes' own need (ONNX Runtime's IO binding).

    Args:
        session: One with a GPU; on a CPU it works too, and gains nothing.
        names: The outputs wanted, all of them tensors of numbers.
        feeds: Name -> array of numbers, none of them empty.
    """
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    for name in names:
        binding.bind_output(name)
    session.run_with_iobinding(binding)
    outputs: list[Any] = binding.copy_outputs_to_cpu()
    return outputs


def load_cuda_libraries() -> str | None:
    """Load what the CUDA provider needs into this process; return what is missing, or None.

    Before the sandbox, which shuts the folders that they lie in. No library starts a thread by being
    loaded, so nothing escapes the sandbox; a session on the GPU would.
    """
    major = str(ort.cuda_version).partition(".")[0]
    if not major:
        return "this ONNX Runtime has no CUDA provider (install onnxruntime-gpu)"
    with contextlib.redirect_stdout(io.StringIO()):  # It prints what it did not find, and goes on.
        ort.preload_dlls()
    for name in _CUDA_LIBRARIES:
        try:
            ctypes.CDLL(name.format(cuda=major))
        except OSError as error:
            return str(error)[:_MAX_FAULT_CHARACTERS]
    return None


def find_cuda_fault(gpu: Gpu) -> str | None:
    """Try the GPU with a model of one node; return why there is none, or None where it answers.

    `get_available_providers()` proves nothing: it lists CUDA on a machine without one.
    """
    with _collected_stderr() as told:
        try:
            session = open_session(_PROBE, gpu=gpu)
            (answer,) = session.run(None, {"x": np.array([[1, 2]], dtype=np.float32)})
        except Exception as error:  # noqa: BLE001 (CUDA's errors come as any class; each means the same here)
            return str(error)[:_MAX_FAULT_CHARACTERS]
    if CUDA not in session.get_providers():
        return _first_error(bytes(told)) or _NO_GPU
    return None if answer.tolist() == [[3.0]] else f"it answered {answer.tolist()} to 1 + 2"


@contextlib.contextmanager
def _collected_stderr() -> Iterator[bytearray]:
    """Collect what the block writes to descriptor 2, up to a pipe's 64 kB: why there is no CUDA is told nowhere else."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)  # What does not fit is dropped: nobody reads before the end.
    before = os.dup(2)
    os.dup2(writing, 2)
    collected = bytearray()
    try:
        yield collected
    finally:
        os.dup2(before, 2)
        with contextlib.suppress(BlockingIOError):
            collected += os.read(reading, 2**16)
        for descriptor in (before, reading, writing):
            os.close(descriptor)


def _first_error(told: bytes) -> str:
    """Return the first line of ONNX Runtime's that says what failed, without colours and its place in their code."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", told.decode(errors="replace"))
    errors = [line for line in text.splitlines() if "error" in line.lower()] or text.splitlines()
    return errors[0].rpartition("FAIL : ")[2][:_MAX_FAULT_CHARACTERS] if errors else ""


def _cuda_options(gpu: Gpu) -> dict[str, str]:
    return {
        "device_id": str(gpu.number),
        "gpu_mem_limit": str(gpu.model_memory_bytes),
        # What is asked for and no more: the default doubles each time, and a worker holds many models.
        "arena_extend_strategy": "kSameAsRequested",
        # The default tries every algorithm for each new shape, and callers' shapes are ever new.
        "cudnn_conv_algo_search": "HEURISTIC",
        # Ten bits of mantissa would make answers differ from the CPU's in the third digit.
        "use_tf32": "0",
    }


def _session_options() -> ort.SessionOptions:
    """Return how every model here is run: one thread, nothing but ONNX protobuf, no model text in the log."""
    options = ort.SessionOptions()
    # One worker per core serves best with one thread each; spinning threads would share cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY  # Failures are typed replies; the log is not for model text.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Plain ONNX protobuf only: the ORT format skips checks that the publish gate relies on.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")  # For `find_placement`.
    return options
