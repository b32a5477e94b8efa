"""ONNX Runtime's values as the arrays that callers send and get."""

import json
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.arrays import Arrays
from inference.datatypes import find_datatype
from inference.errors import ModelFailed

# The gateway takes no larger reply of a worker, and a caller could do little with one.
MAX_OUTPUT_BYTES: Final = 32 * 2**20


def feed_of(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an input as ONNX Runtime takes it: texts as `str`, others as they are."""
    if array.dtype.kind != "O":
        return array
    texts = np.empty(array.shape, dtype=object)
    texts.ravel()[:] = [element.decode() for element in array.flat]
    return texts


def array_of(name: str, value: Any) -> npt.NDArray[Any]:
    """Return an output as an array: a sequence, a map or nothing as JSON texts (`signature.TensorSpec.kind`).

    Raises:
        ModelFailed: it is of a datatype, or a size, that cannot be answered.
    """
    if isinstance(value, list):
        return _texts([json.dumps(_plain(name, item)) for item in value], shape=(len(value),))
    if value is None or isinstance(value, dict):
        return _texts([json.dumps(_plain(name, value))], shape=())
    array = np.asarray(value)
    if array.dtype.kind in "OU":
        return _texts([str(element) for element in array.flat], shape=array.shape)
    if find_datatype(array) is None:
        msg = f"{name} has datatype {array.dtype}, which cannot be answered"
        raise ModelFailed(msg)
    if array.nbytes > MAX_OUTPUT_BYTES:
        msg = f"{name} has {array.nbytes} bytes"
        raise ModelFailed(msg)
    return array


def split_rows(outputs: Arrays, rows: list[int]) -> list[Arrays] | None:
    """Return each call's part of outputs that were computed together; None where one has not a row for each row.

    Args:
        outputs: Of a batch.
        rows: How many rows each call has, in order.
    """
    total = sum(rows)
    if any(array.ndim == 0 or array.shape[0] != total for array in outputs.values()):
        return None
    ends = np.cumsum(rows).tolist()
    return [{name: array[end - count : end] for name, array in outputs.items()} for end, count in zip(ends, rows, strict=True)]


def _texts(texts: list[str], *, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    array = np.empty(shape, dtype=object)
    encoded = [text.encode("utf-8", "replace") for text in texts]
    if sum(map(len, encoded)) > MAX_OUTPUT_BYTES:
        msg = "the output's texts are too large"
        raise ModelFailed(msg)
    array.ravel()[:] = encoded
    return array


def _plain(name: str, value: Any) -> Any:
    """Return a member of a sequence or map as JSON can hold it. NaN and infinities become null, as in tensors."""
    if isinstance(value, dict):
        return {str(key): _plain(name, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(name, item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(name, value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, np.generic):
        return _plain(name, value.item())
    if value is None or isinstance(value, (bool, int, str)):
        return value
    msg = f"{name} holds a {type(value).__name__}, which cannot be answered"
    raise ModelFailed(msg)
