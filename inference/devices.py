"""The machine's GPUs, told without loading ONNX Runtime: for processes that run no model themselves."""

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_DEVICES: Final = Path("/dev")
# Which of the machine's GPUs a process may see; CUDA numbers them anew.
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


def expects_cuda(device: str = "auto") -> bool:
    """Whether workers will ask for CUDA. What they then get is told by each session alone (`inference.providers`).

    Args:
        device: "cuda": they are told to; "auto": they do where there is a GPU, and ONNX Runtime's CUDA provider
            is installed; "cpu": never.
    """
    return device == "cuda" or (device == "auto" and count_gpus() > 0 and _has_provider())


def count_gpus() -> int:
    """Return how many GPUs a process started by this one would see."""
    # nvidia0, nvidia1, ...; nvidiactl and nvidia-uvm are the driver's own.
    present = sum(1 for path in _DEVICES.glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdecimal())
    visible = os.environ.get(VISIBLE)
    if visible is None:
        return present
    return min(present, sum(1 for name in visible.split(",") if name.strip() not in {"", "-1"}))


@cache
def _has_provider() -> bool:
    runtime = find_spec("onnxruntime")
    return (
        runtime is not None
        and runtime.origin is not None
        and (Path(runtime.origin).parent / "capi" / "libonnxruntime_providers_cuda.so").exists()
    )
