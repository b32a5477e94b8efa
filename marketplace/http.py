"""uvicorn's HTTP protocol with bounds: on a request's head, on what is pipelined, and on clients that do not read."""

import asyncio
from collections.abc import Iterable
from functools import cache
from itertools import chain
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

# Bytes of a request line with its headers, or of what follows a chunked body. nginx takes 32 KB.
_MAX_HEAD_BYTES: Final = 64 * 1024
# Each header costs time and memory further in; browsers behind three proxies send 40.
_MAX_HEADERS: Final = 100
# Requests that may wait behind the one being answered. Whoever sends more in one piece is no browser.
_MAX_PIPELINED: Final = 16
# From a connection's start, or a head's first byte, to the head's end. Between requests uvicorn's keep-alive counts.
_HEAD_S: Final = 20.0
# Without having read 48 KB of what we wrote in this time, a client is cut off: it holds memory.
_WRITE_STALL_S: Final = 20.0


@cache
def _format_of(headers: int) -> bytes:
    """Return the format of a head with so many headers: one operation for all of them, not one each."""
    return b"%b: %b\r\n" * headers


class _HeadRefused(Exception):
    """Stops the parser: no more of this connection is read."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. A request within the bounds pays for three flags and a comparison.

    The gateway finds it in its scope as `farebox.connection`: a request that came whole is taken, and
    a reply written, without the messages, copies and regular expressions of ASGI, which cost 60 us a call.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refusal = 400
        self._has_headway = False  # Whether the bytes just fed ended a head or were of a body.
        self._is_in_head = False
        self._stalled_bytes = 0  # Fed since there was headway.
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self.waiting: asyncio.Task[Any] | None = None  # Of the gateway: cancelled when the client is gone.
        self.is_lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # As uvicorn has it.
        """Begin; a client that sends nothing is not waited for long."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(_HEAD_S, self._end_late_head)

    def connection_lost(self, exc: Exception | None) -> None:
        """End. uvicorn tells only the request that was read last; the one being answered must know, too."""
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._write_timer = None
        self.is_lost = True
        if self.waiting is not None:
            self.waiting.cancel()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, in pieces that end where the bound is passed."""
        while len(data) > (left := _MAX_HEAD_BYTES + 1 - self._stalled_bytes):
            self._feed(data[:left])
            if self.transport.is_closing():
                return
            data = data[left:]
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        self._has_headway = False
        super().data_received(data)
        if self._has_headway:
            self._stalled_bytes = 0
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
            if not self._is_in_head:
                return
        else:
            self._stalled_bytes += len(data)
        if self.transport.is_closing():
            return
        if self._stalled_bytes > _MAX_HEAD_BYTES:
            self._refuse(431)
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_S, self._end_late_head)

    # ------------------------------------------------------------ What the parser finds

    def on_message_begin(self) -> None:
        """Note that a head began."""
        super().on_message_begin()
        self._is_in_head = True

    def on_headers_complete(self) -> None:
        """Start the request, unless there is too much of it."""
        self._is_in_head = False
        self._has_headway = True
        if len(self.headers) > _MAX_HEADERS or len(self.pipeline) >= _MAX_PIPELINED:
            self._refusal = 431
            raise _HeadRefused
        self.scope["farebox.hang_up"] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        self.scope["farebox.connection"] = self  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()
        # Trailers arrive as headers, too: nobody asked for them, and none may pass for what a proxy sent.
        # They are no headway, so the bound on stalled bytes is theirs as well.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Note that the body goes on."""
        self._has_headway = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request ended: the connection may be idle now, and is uvicorn's to time."""
        self._has_headway = True
        super().on_message_complete()

    # ------------------------------------------------------------ Refusing

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser stopped at; into a reply that is being sent, nothing is written."""
        if self._running is None or self._running.response_complete:
            self._write_refusal(self._refusal, msg)
        self.transport.close()

    def _refuse(self, status: int) -> None:
        self._refusal = status
        self.send_400_response("")

    def _write_refusal(self, status: int, message: str) -> None:
        text = {408: "The request's head did not come in time.", 431: "The request's head is too large."}.get(status, message).encode()
        head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(text)
        self.transport.write(STATUS_LINE[status] + head + text)

    def _end_late_head(self) -> None:
        self._head_timer = None
        if self._running is not None and not self._running.response_complete:  # It may be slow; the head behind it is not waited for yet.
            self._head_timer = self.loop.call_later(_HEAD_S, self._end_late_head)
        elif self._is_in_head:
            self._refuse(408)
        else:
            self.transport.close()

    # ------------------------------------------------------------ The gateway's short way

    def take_body(self) -> bytes | None:
        """Return the body of the request being answered if all of it is here; None: ask ASGI's `receive`."""
        cycle = self._running
        if cycle is None or cycle.more_body or cycle.disconnected or cycle.waiting_for_100_continue:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def write_reply(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Answer the running request in one write; False where that takes ASGI's `send`, and nothing was written.

        Args:
            status: Of the reply; it has a body.
            headers: Lowercase names; `content-length` is added.
            body: All of it.

        Raises:
            ValueError: a header holds a line break; nothing was written.
        """
        cycle = self._running
        if cycle is None or cycle.response_started or cycle.disconnected or cycle.flow.write_paused or not cycle.keep_alive:
            return False
        if cycle.scope["method"] == "HEAD":
            return False
        lines = [*cycle.default_headers, *headers, (b"content-length", b"%d" % len(body))]
        head = _format_of(len(lines)) % tuple(chain.from_iterable(lines))
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
            message = "A header holds a line break."
            raise ValueError(message)
        cycle.response_started = cycle.response_complete = True
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], head, body))
        cycle.message_event.set()
        cycle.on_response()
        return True

    # ------------------------------------------------------------ Writing

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        """Hold replies back; the client has a while to read what there is."""
        super().pause_writing()
        if self._write_timer is None:
            # abort(), not close(): that would wait for the client to read.
            self._write_timer = self.loop.call_later(_WRITE_STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()
