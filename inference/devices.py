"""Whether a GPU is to be expected, told without loading ONNX Runtime: for processes that run no model themselves."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_GPU: Final = Path("/dev/nvidiactl")


@cache
def expects_cuda() -> bool:
    """Whether workers will ask for CUDA: there is a GPU, and ONNX Runtime's CUDA provider is installed.

    What they then get is told by each session alone (`inference.providers`).
    """
    runtime = find_spec("onnxruntime")
    if runtime is None or runtime.origin is None or not _GPU.exists():
        return False
    return (Path(runtime.origin).parent / "capi" / "libonnxruntime_providers_cuda.so").exists()
