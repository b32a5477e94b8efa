"""One tensor of a request: its declared shape, checked before anything is made, and its elements."""

from collections.abc import Mapping
from itertools import chain
from math import prod
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from inference.datatypes import BYTES, NUMPY_DATATYPES
from marketplace.errors import RequestMalformed
from marketplace.gateway.oip.texts import MAX_BYTES_ELEMENTS, unpack_bytes

MAX_RANK: Final = 8
# What the publish gate allows a model's tensors (MODELS section 3).
MAX_ELEMENTS: Final = 2**28
_FIELDS: Final = frozenset({"name", "shape", "datatype", "parameters", "data"})
_INTEGERS: Final = frozenset({int})
_NUMBERS: Final = frozenset({int, float})
_BOOLEANS: Final = frozenset({bool})
_TEXTS: Final = frozenset({str})


class Declared(NamedTuple):
    """What the JSON says of an input, checked."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: int
    binary_bytes: int | None  # None: the elements are in `data`.
    data: list[Any]


def declare(entry: object, param: str) -> Declared:
    """Check one entry of `inputs`, without making its array.

    Args:
        entry: From the JSON.
        param: Its path, for the error: "inputs[0]".

    Raises:
        RequestMalformed: it is not of the protocol's form, or its sizes are out of bounds.
    """
    if not isinstance(entry, dict):
        refuse_field(param, "must be an object")
    if unknown := entry.keys() - _FIELDS:
        refuse_field(f"{param}.{min(unknown)[:40]}", "is no field of an input")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        refuse_field(f"{param}.name", "must be a text")
    datatype = entry.get("datatype")
    if not isinstance(datatype, str) or datatype not in NUMPY_DATATYPES:
        refuse_field(f"{param}.datatype", f"must be one of {', '.join(NUMPY_DATATYPES)}")
    shape, elements = read_shape(entry.get("shape"), f"{param}.shape", datatype=datatype)
    size = _binary_size(entry.get("parameters", {}), f"{param}.parameters")
    if (size is None) == ("data" not in entry):
        refuse_field(param, "must have either data or the parameter binary_data_size")
    data = entry.get("data", [])
    if not isinstance(data, list):
        refuse_field(f"{param}.data", "must be an array")
    if size is not None and datatype != BYTES and size != elements * NUMPY_DATATYPES[datatype].itemsize:
        refuse_field(param, f"has {size} bytes; its shape and datatype make {elements * NUMPY_DATATYPES[datatype].itemsize}")
    return Declared(name, datatype, shape, elements, size, data)


def read_shape(shape: object, param: str, *, datatype: str) -> tuple[tuple[int, ...], int]:
    """Return a shape and its number of elements, by arithmetic that cannot overflow.

    Raises:
        RequestMalformed: it is no list of whole numbers from 0 on, or too large.
    """
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(type(size) is int and 0 <= size <= MAX_ELEMENTS for size in shape):
        refuse_field(param, f"must be at most {MAX_RANK} whole numbers from 0 on")
    elements = prod(shape)
    most = MAX_BYTES_ELEMENTS if datatype == BYTES else MAX_ELEMENTS
    if elements > most:
        refuse_field(param, f"makes {elements} elements; {most} are allowed")
    return tuple(shape), elements


def _binary_size(parameters: object, param: str) -> int | None:
    if not isinstance(parameters, Mapping):
        refuse_field(param, "must be an object")
    for name in parameters:
        if name != "binary_data_size":
            detail = "is not offered" if name.startswith("shared_memory") else "is no parameter of an input"
            refuse_field(f"{param}.{name[:40]}", detail)
    size = parameters.get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        refuse_field(f"{param}.binary_data_size", "must be a whole number from 0 on")
    return size


def from_binary(declared: Declared, raw: memoryview, param: str) -> npt.NDArray[Any]:
    """Return the array of an input's raw little-endian bytes; numbers are a view into them.

    Raises:
        RequestMalformed: BYTES elements do not fit, or a BOOL is neither 0 nor 1.
    """
    if declared.datatype == BYTES:
        return _objects(unpack_bytes(raw, declared.elements, param=param), declared.shape)
    if declared.datatype == "BOOL":
        # As numbers first: to numpy and ONNX Runtime a byte of 2 is a true that equals no other true.
        flags = np.frombuffer(raw, np.uint8)
        if flags.size and int(flags.max()) > 1:
            refuse_field(param, "has a BOOL that is neither 0 nor 1")
        return flags.view(np.bool_).reshape(declared.shape)
    return np.frombuffer(raw, NUMPY_DATATYPES[declared.datatype]).reshape(declared.shape)


def from_json(declared: Declared, param: str) -> npt.NDArray[Any]:
    """Return the array of an input's `data`: flat, or nested as its shape is.

    Raises:
        RequestMalformed: there are more or fewer elements, or one that the datatype cannot hold.
    """
    param = f"{param}.data"
    flat = _flatten(declared, param)
    if len(flat) != declared.elements:
        refuse_field(param, f"has {len(flat)} elements; the shape makes {declared.elements}")
    kinds = set(map(type, flat))
    if declared.datatype == BYTES:
        if not kinds <= _TEXTS:
            refuse_field(param, "must hold texts: BYTES that are none are sent as binary data")
        return _objects([text.encode() for text in flat], declared.shape)
    dtype = NUMPY_DATATYPES[declared.datatype]
    allowed = {"b": _BOOLEANS, "f": _NUMBERS}.get(dtype.kind, _INTEGERS)
    if not kinds <= allowed:
        refuse_field(param, f"has an element that is no {declared.datatype}")
    try:
        # Numbers beyond FP16 and FP32 become infinite, which is refused below and needs no warning.
        with np.errstate(over="ignore"):
            array = np.array(flat, dtype)
    except (OverflowError, ValueError):
        refuse_field(param, f"has a number that {declared.datatype} cannot hold")
    if dtype.kind == "f" and not np.isfinite(array).all():
        refuse_field(param, f"has a number that {declared.datatype} cannot hold")
    return array.reshape(declared.shape)


def _flatten(declared: Declared, param: str) -> list[Any]:
    """Return the elements in row-major order; each level of nesting must be as long as the shape says."""
    flat = declared.data
    if not flat or type(flat[0]) is not list:
        return flat
    for place, size in enumerate(declared.shape):
        if place:
            if set(map(type, flat)) != {list}:
                refuse_field(param, "is nested otherwise than its shape")
            lengths = set(map(len, flat))
            flat = list(chain.from_iterable(flat))
        else:
            lengths = {len(flat)}
        if lengths != {size}:
            refuse_field(param, "is nested otherwise than its shape")
    return flat


def _objects(elements: list[bytes], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array.reshape(shape)


def refuse_field(param: str, fault: str) -> NoReturn:
    """Refuse a field of the JSON: the path of the culprit, and what is wrong with it.

    Raises:
        RequestMalformed: always.
    """
    message = f"{param} {fault}."
    raise RequestMalformed(message, param=param) from None
