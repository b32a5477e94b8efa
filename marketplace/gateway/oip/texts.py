"""BYTES elements as they travel. Other datatypes travel as numpy holds them (`inference.datatypes`).

Source: Triton's binary tensor data extension.
"""

import struct
from typing import Any, Final

import numpy.typing as npt

from marketplace.errors import RequestMalformed

# BYTES elements in one tensor: each is a Python object, 0.4 us and 40 bytes at the least.
MAX_BYTES_ELEMENTS: Final = 50_000
_LENGTH: Final = struct.Struct("<I")


def pack_bytes(array: npt.NDArray[Any]) -> bytes:
    """Return BYTES elements as they travel: each a little-endian 32-bit length, then so many bytes."""
    return b"".join([piece for element in array.ravel().tolist() for piece in (_LENGTH.pack(len(element)), element)])


def unpack_bytes(raw: memoryview, count: int, *, param: str) -> list[bytes]:
    """Return `count` BYTES elements.

    Raises:
        RequestMalformed: the bytes are not exactly so many elements.
    """
    elements: list[bytes] = []
    at, size = 0, len(raw)
    while at < size and len(elements) < count:
        if size - at < _LENGTH.size:
            break
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if length > size - at:
            message = f"{param}: element {len(elements)} says it has {length} bytes; {size - at} are left."
            raise RequestMalformed(message, param=param)
        elements.append(bytes(raw[at : at + length]))
        at += length
    if at != size or len(elements) != count:
        message = f"{param}: the binary data is not the {count} elements of its shape."
        raise RequestMalformed(message, param=param)
    return elements
