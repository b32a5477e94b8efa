"""Messages between the gateway and a worker process: a fixed header, then raw little-endian arrays.

No pickle: a worker runs other people's models, so what comes back from it is checked like any
other stranger's bytes. Both ends are on one machine and of one version of this code.
"""

import enum
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

# Magic, kind, spare byte, tag (repeated in the reply), body size. 16 bytes, so that arrays stay aligned.
_HEADER: Final = struct.Struct("<2sBxIQ")
_MAGIC: Final = b"FB"
HEADER_BYTES: Final = _HEADER.size
# Name size, datatype code, rank, two spare bytes, then the size of the raw elements.
_ARRAY: Final = struct.Struct("<HBB4xQ")
_COUNT: Final = struct.Struct("<I4x")
# Precedes the arrays of RUN: version number, then four bytes so that the arrays behind it stay aligned.
RUN_PREFIX: Final = struct.Struct("<I4x")
# Precedes the arrays of RESULT: microseconds the batch ran.
RESULT_PREFIX: Final = struct.Struct("<Q")
# Precedes the model of LOAD: version number and the size of the JSON that precedes the model's bytes.
LOAD_PREFIX: Final = struct.Struct("<II")
_MAX_RANK: Final = 8
_MAX_ARRAYS: Final = 64
_DATATYPES: Final = tuple(np.dtype(name) for name in ("?", "u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8"))
_CODES: Final = {datatype: code for code, datatype in enumerate(_DATATYPES)}

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
Buffer: TypeAlias = bytes | bytearray | memoryview


class Kind(enum.IntEnum):
    """What a message asks or answers."""

    PING = 1
    LOAD = 2
    UNLOAD = 3
    RUN = 4
    DONE = 16
    RESULT = 17
    FAILED = 18


class WireError(Exception):
    """The bytes are no message of ours: the other end is broken or hostile, and the stream is lost."""


@dataclass(slots=True)
class Frame:
    """One message: its kind, the tag that pairs a reply with its question, and its body."""

    kind: Kind
    tag: int
    body: memoryview


def frame_header(kind: Kind, tag: int, body_bytes: int) -> bytes:
    """Return the header that precedes a body of so many bytes."""
    return _HEADER.pack(_MAGIC, kind, tag, body_bytes)


def encode_frame(kind: Kind, tag: int, *body: Buffer) -> bytes:
    """Return a whole message; `body` is joined. For large bodies send the header and pieces apart."""
    size = sum(memoryview(piece).nbytes for piece in body)
    return b"".join((_HEADER.pack(_MAGIC, kind, tag, size), *body))


def _parse_header(header: Buffer, *, max_body_bytes: int) -> tuple[Kind, int, int]:
    magic, kind, tag, size = _HEADER.unpack_from(header)
    if magic != _MAGIC or size > max_body_bytes:
        msg = f"bad header: magic {magic!r}, body of {size} bytes"
        raise WireError(msg)
    try:
        return Kind(kind), tag, size
    except ValueError as error:
        msg = f"unknown kind {kind}"
        raise WireError(msg) from error


class FrameReader:
    """Cuts a stream into messages, for a socket that is read as bytes happen to come."""

    def __init__(self, *, max_body_bytes: int) -> None:
        self._buffer = bytearray()
        self._max_body_bytes = max_body_bytes

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Yield the messages that these bytes complete.

        Raises:
            WireError: the stream is not ours; nothing after it can be read.
        """
        buffered: bytes | bytearray = chunk
        if self._buffer:
            self._buffer += chunk
            buffered = self._buffer
        start = 0
        while len(buffered) - start >= HEADER_BYTES:
            header = buffered[start : start + HEADER_BYTES]
            kind, tag, size = _parse_header(header, max_body_bytes=self._max_body_bytes)
            end = start + HEADER_BYTES + size
            if len(buffered) < end:
                break
            # A copy, because the buffer is about to be cut and arrays will point into the body.
            yield Frame(kind, tag, memoryview(bytes(buffered[start + HEADER_BYTES : end])))
            start = end
        if start or not self._buffer:  # Else a large body is growing: copying it for each chunk would take seconds.
            self._buffer = bytearray(buffered[start:])


def receive_frame(sock: socket.socket, *, max_body_bytes: int) -> Frame | None:
    """Return the next message of a blocking socket, or None where the other end has closed it."""
    header = bytearray(HEADER_BYTES)
    if not _receive_into(sock, memoryview(header)):
        return None
    kind, tag, size = _parse_header(header, max_body_bytes=max_body_bytes)
    body = bytearray(size)
    if not _receive_into(sock, memoryview(body)):
        return None
    return Frame(kind, tag, memoryview(body))


def _receive_into(sock: socket.socket, view: memoryview) -> bool:
    """Fill the view; False if the stream ended first."""
    while view:
        received = sock.recv_into(view)
        if received == 0:
            return False
        view = view[received:]
    return True


def encode_arrays(arrays: Arrays) -> bytes:
    """Return named arrays as bytes that `decode_arrays` reads.

    Raises:
        TypeError: an array holds objects or text, or has more than 8 dimensions.
    """
    pieces: list[Buffer] = [_COUNT.pack(len(arrays))]
    for name, array in arrays.items():
        code = _CODES.get(array.dtype)
        if code is None or array.ndim > _MAX_RANK:
            msg = f"{name}: {array.dtype} of rank {array.ndim} cannot be sent"
            raise TypeError(msg)
        encoded = name.encode()
        pieces += (
            _ARRAY.pack(len(encoded), code, array.ndim, array.nbytes),
            struct.pack(f"<{array.ndim}Q", *array.shape),
            encoded,
            bytes(-len(encoded) % 8),
            array.tobytes(),
            bytes(-array.nbytes % 8),
        )
    return b"".join(pieces)


def decode_arrays(body: memoryview) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of `encode_arrays`, as views into `body`.

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


def decode_result(body: memoryview) -> tuple[int, dict[str, npt.NDArray[Any]]]:
    """Return the microseconds a batch ran and its arrays, from the body of a RESULT.

    Raises:
        WireError: the body is not one.
    """
    if len(body) < RESULT_PREFIX.size:
        msg = f"a result of {len(body)} bytes"
        raise WireError(msg)
    (ran_us,) = RESULT_PREFIX.unpack_from(body)
    return ran_us, decode_arrays(body[RESULT_PREFIX.size :])


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
    # Python's integers do not overflow, so a shape like (2**63, 2) cannot pass for a small one.
    if prod(shape) * datatype.itemsize != size or at + size > len(body):
        msg = f"shape {shape} of {datatype} is not {size} bytes"
        raise WireError(msg)
    array = np.frombuffer(body[at : at + size], dtype=datatype).reshape(shape)
    return name, array, at + size + -size % 8
