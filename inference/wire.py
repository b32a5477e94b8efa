"""Messages between the gateway and a worker process: a fixed header, then a body, mostly of `arrays`.

No pickle: a worker runs other people's models, so what comes back from it is checked like any
other stranger's bytes. Both ends are on one machine and of one version of this code.
"""

import enum
import json
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy.typing as npt

from inference.arrays import Arrays, WireError, decode_arrays, encode_arrays

# Magic, kind, spare byte, tag (repeated in the reply), body size. 16 bytes, so that arrays stay aligned.
_HEADER: Final = struct.Struct("<2sBxIQ")
_MAGIC: Final = b"FB"
HEADER_BYTES: Final = _HEADER.size
# Precedes the arrays of RUN: version number, then four bytes so that the arrays behind it stay aligned.
RUN_PREFIX: Final = struct.Struct("<I4x")
# Precedes the calls of RUN_TENSORS: version number, and the size of the JSON list of outputs' names between.
_NAMES_PREFIX: Final = struct.Struct("<II")
# Precedes calls: how many; and each call's arrays: how many bytes.
_SIZE: Final = struct.Struct("<Q")
# Precedes the arrays of RESULT: microseconds the batch ran.
RESULT_PREFIX: Final = struct.Struct("<Q")
# Precedes the model of LOAD: version number and the size of the JSON that precedes the model's bytes.
LOAD_PREFIX: Final = struct.Struct("<II")
Buffer: TypeAlias = bytes | bytearray | memoryview


class Kind(enum.IntEnum):
    """What a message asks or answers."""

    PING = 1
    LOAD = 2
    UNLOAD = 3
    RUN = 4  # Rows of a pipeline.
    RUN_TENSORS = 5  # Calls with the graph's own tensors.
    DONE = 16
    RESULT = 17
    FAILED = 18
    RESULT_TENSORS = 19
    REJECTED = 21  # An image of a RUN cannot be decoded.
    INSEPARABLE = 20  # The calls of a RUN_TENSORS ran together, but their outputs cannot be told apart.


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


def encode_tensor_run(number: int, outputs: Sequence[str], calls: Sequence[Arrays]) -> bytes:
    """Return the body of RUN_TENSORS: a version's number, the outputs wanted (none for all), each call's inputs.

    Raises:
        TypeError: as `encode_arrays`.
    """
    names = json.dumps(list(outputs)).encode()
    return b"".join((_NAMES_PREFIX.pack(number, len(names)), names, bytes(-len(names) % 8), *_encode_calls(calls)))


def decode_tensor_run(body: memoryview) -> tuple[int, list[str], list[dict[str, npt.NDArray[Any]]]]:
    """Return what `encode_tensor_run` was given.

    Raises:
        WireError: the body is not one.
    """
    try:
        number, names_bytes = _NAMES_PREFIX.unpack_from(body)
        at = _NAMES_PREFIX.size
        outputs = json.loads(bytes(body[at : at + names_bytes]))
    except (struct.error, ValueError) as error:
        msg = f"not a run: {error}"
        raise WireError(msg) from error
    return number, outputs, _decode_calls(body, at + names_bytes + -names_bytes % 8)


def encode_tensor_result(ran_us: int, answers: Sequence[Arrays]) -> bytes:
    """Return the body of RESULT_TENSORS: the microseconds it ran, and each call's outputs.

    Raises:
        TypeError: as `encode_arrays`.
    """
    return b"".join((RESULT_PREFIX.pack(ran_us), *_encode_calls(answers)))


def decode_tensor_result(body: memoryview) -> tuple[int, list[dict[str, npt.NDArray[Any]]]]:
    """Return what `encode_tensor_result` was given.

    Raises:
        WireError: the body is not one.
    """
    if len(body) < RESULT_PREFIX.size:
        msg = f"a result of {len(body)} bytes"
        raise WireError(msg)
    (ran_us,) = RESULT_PREFIX.unpack_from(body)
    return ran_us, _decode_calls(body, RESULT_PREFIX.size)


def _encode_calls(calls: Sequence[Arrays]) -> Iterator[bytes]:
    yield _SIZE.pack(len(calls))
    for arrays in calls:
        encoded = encode_arrays(arrays)
        yield _SIZE.pack(len(encoded))
        yield encoded


def _decode_calls(body: memoryview, at: int) -> list[dict[str, npt.NDArray[Any]]]:
    calls = []
    try:
        (count,) = _SIZE.unpack_from(body, at)
        at += _SIZE.size
        # Each call has at least a size, so that a false count ends with the body.
        for _ in range(count):
            (size,) = _SIZE.unpack_from(body, at)
            at += _SIZE.size
            calls.append(decode_arrays(body[at : at + size]))
            at += size
    except struct.error as error:
        msg = f"calls do not fit their message: {error}"
        raise WireError(msg) from error
    if at != len(body):
        msg = f"{len(body) - at} bytes are left over after the calls"
        raise WireError(msg)
    return calls
