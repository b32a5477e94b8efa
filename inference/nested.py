"""Tensors as nested JSON lists, both ways: nothing is rounded, cut or guessed on the way in."""

from collections.abc import Callable
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.datatypes import BYTES, NUMPY_DATATYPES
from inference.errors import InvalidInput
from inference.signature import TensorSpec

_MAX_RANK: Final = 8
_WHOLE: Final = frozenset({int})  # True is no number, and 1.5 no whole one.
_NUMBERS: Final = frozenset({int, float})


def parse_tensor(value: Any, spec: TensorSpec, *, param: str) -> npt.NDArray[Any]:
    """Return the array that nested lists describe.

    Args:
        value: Parsed JSON: numbers, booleans or texts, in lists as deep as the tensor has dimensions.
        spec: The input's.
        param: What an error names.

    Raises:
        InvalidInput: it is not one, or not of this datatype and shape. Nothing was allocated for a
            shape that is not there.
    """
    elements, shape = _flatten(value, spec, param=param)
    kinds = set(map(type, elements))
    if spec.datatype == BYTES:
        _require(kinds <= {str}, param, "Each element must be a text.", "wrong_datatype")
        texts = np.empty(len(elements), dtype=object)
        texts[:] = [element.encode() for element in elements]
        return texts.reshape(shape)
    datatype = NUMPY_DATATYPES[spec.datatype]
    if spec.datatype == "BOOL":
        _require(kinds <= {bool}, param, "Each element must be true or false.", "wrong_datatype")
    elif datatype.kind == "f":
        _require(kinds <= _NUMBERS, param, "Each element must be a number.", "wrong_datatype")
    else:
        _require(kinds <= _WHOLE, param, "Each element must be a whole number.", "wrong_datatype")
    try:
        with np.errstate(over="ignore"):  # Beyond float32 it becomes infinite, and is refused as such.
            return np.array(elements, dtype=datatype).reshape(shape)
    except OverflowError:
        limits = np.iinfo(datatype)
        detail = f"Each element must be between {limits.min} and {limits.max}."
        raise InvalidInput(param, detail, reason="out_of_range") from None


def _flatten(value: Any, spec: TensorSpec, *, param: str) -> tuple[list[Any], tuple[int, ...]]:
    """Return the elements and the shape, found level by level."""
    level, shape = [value], []
    rank = _depth(value) if spec.any_rank else len(spec.shape)
    _require(rank <= _MAX_RANK, param, f"A tensor has at most {_MAX_RANK} dimensions.", "wrong_shape")
    for depth in range(rank):
        _require(set(map(type, level)) <= {list}, param, f"The shape must be {spec.shown_shape}: lists nested {rank} deep.", "wrong_shape")
        # An empty list tells nothing of the dimensions below it.
        missing = 0 if spec.any_rank else max(0, spec.shape[depth])
        sizes = set(map(len, level)) or {missing}
        _require(len(sizes) == 1, param, "Lists side by side must be of one length.", "wrong_shape")
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))
    _require(list not in set(map(type, level)), param, f"The shape must be {spec.shown_shape}; this is nested deeper.", "wrong_shape")
    if not spec.fits(shape):
        detail = f"The shape must be {spec.shown_shape}; this is {shape}."
        raise InvalidInput(param, detail, reason="wrong_shape")
    return level, tuple(shape)


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        depth += 1
        value = value[0] if value else None
    return depth


def _require(holds: bool, param: str, detail: str, reason: str) -> None:  # noqa: FBT001 (reads as a sentence at its calls)
    if not holds:
        raise InvalidInput(param, detail, reason=reason)


def render_tensor(array: npt.NDArray[Any], spec: TensorSpec, *, document: Callable[[bytes], Any]) -> Any:
    """Return an output as JSON holds it: numbers as an array, texts as lists, what is no tensor as its documents.

    Args:
        array: The output.
        spec: The graph's word on it.
        document: Puts one JSON document into the whole.

    Returns:
        A contiguous array of numbers, or what `list` and `document` make.
    """
    if spec.kind != "tensor":
        return [document(text) for text in array] if array.ndim else document(array.item())
    if array.dtype.kind == "O":
        return _texts(array).tolist()
    return np.ascontiguousarray(array) if array.ndim else _scalar(array)


def _texts(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    texts = np.empty(array.shape, dtype=object)
    texts.ravel()[:] = [text.decode("utf-8", "replace") for text in array.flat]
    return texts


def _scalar(array: npt.NDArray[Any]) -> Any:
    value = array.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
