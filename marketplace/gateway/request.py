"""One HTTP request as the gateway reads it: headers, client address, capped body."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from typing import Any, Final, Protocol, TypeAlias
from uuid import UUID

from billing.ids import public_id, uuid7
from marketplace.errors import BodyIncomplete, BodyTooLarge, CallerLeft, HeaderInvalid

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class Connection(Protocol):
    """The connection under a request, where our own server is under it (`marketplace.http`)."""

    waiting: "asyncio.Task[Any] | None"  # Cancelled when the client hangs up.
    is_lost: bool

    def take_body(self) -> bytes | None:
        """Return the whole body if it is here."""

    def write_reply(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Write a whole reply; False where it could not be written at once."""


# A body dribbled in tiny pieces costs us a wake-up each; nobody honest sends this many.
_MAX_BODY_CHUNKS: Final = 8192


class Request:
    """What the gateway needs of one HTTP request. Header names are lowercase text."""

    __slots__ = ("_headers", "_public_id", "_receive", "connection", "id", "method", "path", "peer", "started")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.id: UUID = uuid7()
        self.started = time.perf_counter()
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        client = scope.get("client")
        self.peer: str = client[0] if client else ""
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive = receive
        self._public_id = ""
        self.connection: Connection | None = scope.get("farebox.connection")

    @property
    def public_id(self) -> str:
        """The Request-Id: `req_` and the id in base62."""
        if not self._public_id:
            self._public_id = public_id("req", self.id)
        return self._public_id

    def has_header(self, name: bytes) -> bool:
        """Whether a header was sent. `name` is lowercase."""
        return name in self._headers

    def header(self, name: bytes) -> str | None:
        """Return a header's text, or None. `name` is lowercase; of repeated headers the last counts."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    def header_int(self, name: bytes, *, minimum: int, maximum: int) -> int | None:
        """Return a header as an integer within [minimum, maximum], or None where it is absent.

        Raises:
            HeaderInvalid: it is something else.
        """
        text = self.header(name)
        if text is None:
            return None
        # At most 19 digits: int() of a very long string costs quadratic time.
        if not (text.isascii() and text.isdigit() and len(text) <= 19 and minimum <= int(text) <= maximum):
            shown = name.decode()
            message = f"{shown} must be a whole number from {minimum} to {maximum}."
            raise HeaderInvalid(message, param=shown)
        return int(text)

    def client_address(self, trusted_proxies: Collection[str]) -> str:
        """Return the caller's address: the peer's, or what a trusted proxy says of it.

        Only the last X-Forwarded-For entry is believed: it is the one our own proxy appended.
        """
        if self.peer in trusted_proxies and (forwarded := self.header(b"x-forwarded-for")):
            return forwarded.rsplit(",", 1)[-1].strip()
        return self.peer

    def take_body(self, limit_bytes: int) -> bytes | None:
        """Return the whole body if it came with the head, as small ones do; None: `read_body` waits for it.

        Raises:
            BodyTooLarge: it is, or says it is, over the limit.
        """
        self._check_declared_size(limit_bytes)
        body = self.connection.take_body() if self.connection is not None else None
        if body is not None and len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        return body

    async def read_body(self, limit_bytes: int) -> bytes:
        """Read the whole body.

        Raises:
            BodyTooLarge: it is, or says it is, over the limit; no more of it is read.
            BodyIncomplete: the client went away.
        """
        self._check_declared_size(limit_bytes)
        message = await self._receive()
        if not message.get("more_body"):  # The usual case: one piece, no copy.
            return self._checked(message, limit_bytes)
        chunks = [self._checked(message, limit_bytes)]
        size = len(chunks[0])
        while message.get("more_body"):
            message = await self._receive()
            chunks.append(self._checked(message, limit_bytes))
            size += len(chunks[-1])
            if size > limit_bytes or len(chunks) > _MAX_BODY_CHUNKS:
                raise _too_large(limit_bytes)
        return b"".join(chunks)

    def _check_declared_size(self, limit_bytes: int) -> None:
        declared = self.header_int(b"content-length", minimum=0, maximum=2**63 - 1)
        if declared is not None and declared > limit_bytes:
            raise _too_large(limit_bytes)

    @staticmethod
    def _checked(message: Message, limit_bytes: int) -> bytes:
        if message["type"] == "http.disconnect":
            raise BodyIncomplete
        body: bytes = message.get("body", b"")
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        return body


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit_bytes} bytes.")


def raise_if_left(connection: Connection | None) -> None:
    """Turn the cancellation of a call whose client has hung up into a refusal that is logged like any other.

    Raises:
        CallerLeft: it has; the current task goes on.
    """
    task = asyncio.current_task()
    if connection is not None and connection.is_lost and task is not None:
        task.uncancel()
        raise CallerLeft
