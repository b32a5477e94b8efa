"""The gate's two ends of one socket: JSON messages with their length before them, and blobs that a message announces."""

import json
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

_LENGTH: Final = struct.Struct(">I")
_PIECE_BYTES: Final = 2**20
# The child has run a stranger's model: what it says is bounded. A report's message has a few hundred bytes.
_MAX_MESSAGE_BYTES: Final = 64 * 2**10
# The question goes the other way, from us: rows of ids of 64 samples.
_MAX_QUESTION_BYTES: Final = 64 * 2**20


class LinkLost(Exception):
    """The other end is gone, or says what is no message of ours."""


class Link:
    """A socket that messages go over. `wait` is called before each read, and raises where it took too long."""

    def __init__(self, sock: socket.socket, *, wait: Callable[[], None] = lambda: None) -> None:
        self._sock = sock
        self._wait = wait

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message."""
        body = json.dumps(message).encode()
        self._sock.sendall(_LENGTH.pack(len(body)) + body)

    def send_blob(self, content: bytes) -> None:
        """Announce bytes, and send them."""
        self.send({"blob": len(content)})
        self._sock.sendall(content)

    def send_all(self, question: Mapping[str, Any], blobs: Mapping[str, bytes]) -> None:
        """Send a question with the files it is about."""
        self.send({**question, "blobs": {name: len(content) for name, content in blobs.items()}})
        for content in blobs.values():
            self._sock.sendall(content)

    def receive_all(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return what `send_all` sent."""
        question = self.receive(most=_MAX_QUESTION_BYTES)
        return question, {name: self.receive_bytes(size) for name, size in question["blobs"].items()}

    def receive(self, *, most: int = _MAX_MESSAGE_BYTES) -> dict[str, Any]:
        """Return the next message.

        Raises:
            LinkLost: the stream ended, or it is none.
        """
        (size,) = _LENGTH.unpack(self.receive_bytes(_LENGTH.size))
        if size > most:
            msg = f"a message of {size} bytes"
            raise LinkLost(msg)
        try:
            message = json.loads(self.receive_bytes(size))
        except (ValueError, RecursionError) as error:
            msg = "no JSON"
            raise LinkLost(msg) from error
        if not isinstance(message, dict):
            msg = "no JSON object"
            raise LinkLost(msg)
        return message

    def receive_bytes(self, size: int) -> bytes:
        """Return exactly so many bytes.

        Raises:
            LinkLost: the stream ended before.
        """
        received = bytearray()
        while len(received) < size:
            self._wait()
            piece = self._sock.recv(min(_PIECE_BYTES, size - len(received)))
            if not piece:
                msg = "the stream ended"
                raise LinkLost(msg)
            received += piece
        return bytes(received)
