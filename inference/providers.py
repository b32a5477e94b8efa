"""Open models with ONNX Runtime, on the execution provider that was asked for, and tell which one really runs."""

import os
from typing import Any, Final, Literal

# Since 1.29 ONNX Runtime sends telemetry from Linux unless told otherwise before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["ORT_TELEMETRY_DISABLED"] = "1"

import onnxruntime as ort

Provider = Literal["cpu", "cuda"]

CUDA: Final = "CUDAExecutionProvider"
CPU: Final = "CPUExecutionProvider"
_FATAL_ONLY: Final = 4


def open_session(model: bytes | memoryview) -> Any:
    """Return a session on the CPU.

    Raises:
        Exception: ONNX Runtime's, where it refuses the model.
    """
    return ort.InferenceSession(bytes(model), session_options(), providers=[CPU])


def session_options() -> ort.SessionOptions:
    """Return how every model here is run: one thread, nothing but ONNX protobuf, no model text in the log."""
    options = ort.SessionOptions()
    # One worker per core serves best with one thread each; spinning threads would share cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY  # Failures are typed replies; the log is not for model text.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Plain ONNX protobuf only: the ORT format skips checks that the publish gate relies on.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options
