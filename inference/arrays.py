"""Named arrays as bytes and back: raw little-endian elements behind a header of name, datatype and shape.

What comes from a worker is checked like any other stranger's bytes: nothing is allocated for a shape
that its bytes do not fill.
"""

import struct
from collections.abc import Mapping
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from inference.datatypes import NUMPY_DATATYPES

# Name size, datatype code, rank, four spare bytes, then the size of the elements.
_ARRAY: Final = struct.Struct("<HBB4xQ")
_COUNT: Final = struct.Struct("<I4x")
_TEXT_BYTES: Final = struct.Struct("<I")
_MAX_RANK: Final = 8
# A model may carry its state in hundreds of tensors.
_MAX_ARRAYS: Final = 1_024
_DATATYPES: Final = tuple(NUMPY_DATATYPES.values())
_CODES: Final = {datatype: code for code, datatype in enumerate(_DATATYPES)}
_TEXT: Final = _CODES[np.dtype("O")]

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]


class WireError(Exception):
    """The bytes are no message of ours: the other end is broken or hostile, and the stream is lost."""


def encode_arrays(arrays: Arrays) -> bytes:
    """Return named arrays as bytes that `decode_arrays` reads.

    Raises:
        TypeError: an array holds what has no datatype in the Open Inference Protocol, objects that
            are not `bytes`, or has more than 8 dimensions.
    """
    pieces = [_COUNT.pack(len(arrays))]
    for name, array in arrays.items():
        code = _CODES.get(array.dtype)
        if code is None or array.ndim > _MAX_RANK:
            msg = f"{name}: {array.dtype} of rank {array.ndim} cannot be sent"
            raise TypeError(msg)
        encoded = name.encode()
        elements = array.tobytes() if code != _TEXT else _encode_texts(name, array)
        size = len(elements)
        pieces += (
            _ARRAY.pack(len(encoded), code, array.ndim, size),
            struct.pack(f"<{array.ndim}Q", *array.shape),
            encoded,
            bytes(-len(encoded) % 8),
            elements,
            bytes(-size % 8),
        )
    return b"".join(pieces)


def _encode_texts(name: str, array: npt.NDArray[Any]) -> bytes:
    """Return each text's size, then its bytes, as the Open Inference Protocol writes them."""
    pieces: list[bytes] = []
    for text in array.flat:
        if not isinstance(text, bytes):
            msg = f"{name}: {type(text).__name__} cannot be sent"
            raise TypeError(msg)
        pieces += (_TEXT_BYTES.pack(len(text)), text)
    return b"".join(pieces)


def decode_arrays(body: memoryview) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of `encode_arrays`, as views into `body` but for texts, which are copied.

    Raises:
        WireError: sizes, datatypes or shapes do not describe these bytes. Nothing was allocated for them.
    """
    try:
        (count,) = _COUNT.unpack_from(body)
        if count > _MAX_ARRAYS:
            msg = f"{count} arrays"
            raise WireError(msg)
        arrays: dict[str, npt.NDArray[Any]] = {}
        at = _COUNT.size
        for _ in range(count):
            name, array, at = _decode_array(body, at)
            arrays[name] = array
    except (struct.error, ValueError, IndexError) as error:  # UnicodeDecodeError is a ValueError.
        msg = f"arrays do not fit their message: {error}"
        raise WireError(msg) from error
    if at != len(body):
        msg = f"{len(body) - at} bytes are left over after the arrays"
        raise WireError(msg)
    return arrays


def _decode_array(body: memoryview, at: int) -> tuple[str, npt.NDArray[Any], int]:
    """Return one array, its name, and where the next one starts."""
    name_bytes, code, rank, size = _ARRAY.unpack_from(body, at)
    if rank > _MAX_RANK:
        msg = f"rank {rank}"
        raise WireError(msg)
    at += _ARRAY.size
    shape = struct.unpack_from(f"<{rank}Q", body, at)
    at += 8 * rank
    name = str(body[at : at + name_bytes], "utf-8")
    at += name_bytes + -name_bytes % 8
    datatype = _DATATYPES[code]
    if code == _TEXT:
        array = _decode_texts(body[at : at + size], shape, size)
        return name, array, at + size + -size % 8
    # Python's integers do not overflow, so a shape like (2**63, 2) cannot pass for a small one.
    if prod(shape) * datatype.itemsize != size or at + size > len(body):
        msg = f"shape {shape} of {datatype} is not {size} bytes"
        raise WireError(msg)
    array = np.frombuffer(body[at : at + size], dtype=datatype).reshape(shape)
    return name, array, at + size + -size % 8


def _decode_texts(elements: memoryview, shape: tuple[int, ...], size: int) -> npt.NDArray[Any]:
    count, at = prod(shape), 0
    if len(elements) != size or count * _TEXT_BYTES.size > size:
        msg = f"shape {shape} of texts is not {size} bytes"
        raise WireError(msg)
    texts = np.empty(count, dtype=object)
    for position in range(count):
        (length,) = _TEXT_BYTES.unpack_from(elements, at)
        at += _TEXT_BYTES.size
        texts[position] = bytes(elements[at : at + length])
        at += length
    if at != size:  # Also where a text reaches beyond the end, which a slice forgives.
        msg = f"{count} texts are not {size} bytes"
        raise WireError(msg)
    return texts.reshape(shape)
