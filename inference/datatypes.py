"""The datatypes of tensors, by their Open Inference Protocol names, and how numpy holds each."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

# BYTES is text to ONNX: numpy holds it as objects, each a `bytes` of UTF-8.
BYTES: Final = "BYTES"
NUMPY_DATATYPES: Final[Mapping[str, np.dtype[Any]]] = MappingProxyType(
    {
        "BOOL": np.dtype("?"),
        "UINT8": np.dtype("u1"),
        "UINT16": np.dtype("<u2"),
        "UINT32": np.dtype("<u4"),
        "UINT64": np.dtype("<u8"),
        "INT8": np.dtype("i1"),
        "INT16": np.dtype("<i2"),
        "INT32": np.dtype("<i4"),
        "INT64": np.dtype("<i8"),
        "FP16": np.dtype("<f2"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
        BYTES: np.dtype("O"),
    }
)
_NAMES: Final = {datatype: name for name, datatype in NUMPY_DATATYPES.items()}


def find_datatype(array: npt.NDArray[Any]) -> str | None:
    """Return the name of an array's datatype, or None where the protocol has none for it."""
    return _NAMES.get(array.dtype)
