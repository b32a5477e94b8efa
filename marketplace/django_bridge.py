"""Django's threads, kept from slow clients: they get whole requests only, and give whole responses.

The body is read, and the response written, on the event loop. a2wsgi's own middleware does both
from the thread, so that eight clients who dribble, or hang up at the wrong moment, end all pages.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from io import BytesIO
from time import monotonic
from typing import IO, Any, Final, TypeVar

from a2wsgi.wsgi import build_environ
from django.conf import settings
from django.db import OperationalError, close_old_connections

from billing.errors import StorageUnavailable
from marketplace.errors import BodyIncomplete, BodyTooSlow, MarketplaceError, SiteBusy
from marketplace.gateway.replies import Headers, Reply, refusal
from marketplace.gateway.request import Message, Receive, Request, Scope, Send
from marketplace.logs import begin_request
from marketplace.problems import problem_of
from marketplace.room import Room, Stay
from marketplace.spool import MAX_UPLOADS, spooled
from marketplace.uploads import admit_upload, is_upload

log = logging.getLogger(__name__)

T = TypeVar("T")

# More threads let slow pages overlap; each has a database connection.
_THREADS: Final = 8
# Requests in the threads or waiting for one: at 10 ms a page, a third of a second's worth.
_MOST_AT_ONCE: Final = 256
# Memory for bodies on their way in, for those in Django, and for responses on their way out: each.
_ROOM_BYTES: Final = 64 * 1024 * 1024
_BODY_S: Final = 10.0
# What a multipart body adds to its file.
_MULTIPART_BYTES: Final = 64 * 1024
# For each piece of a response: a client that reads 3 KB a second is still served.
_PIECE_S: Final = 20.0
_PIECE_BYTES: Final = 64 * 1024
# Threads that took nothing up for this long are stuck, or there are too few of them.
_UNRESPONSIVE_S: Final = 10.0


class DjangoBridge:
    """An ASGI application around a WSGI one."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="django")
        self._incoming = Room(limit_bytes=_ROOM_BYTES)
        self._outgoing = Room(limit_bytes=_ROOM_BYTES)
        self._at_once = 0
        self._held_bytes = 0  # Of bodies in Django.
        self._uploads = 0
        self._probe: Future[None] | None = None
        self._probed_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        request = Request(scope, receive)
        begin_request(request)
        try:
            reply = await self._answer(scope, receive)
        except BodyIncomplete:
            return  # Nobody is there to be told.
        except (MarketplaceError, StorageUnavailable) as error:
            reply = _refuse(error, request)
        if not any(name == b"request-id" for name, _ in reply.headers):
            reply.headers.append((b"request-id", request.public_id.encode()))
        try:
            async with self._outgoing.stay(timeout_s=_PIECE_S) as stay:
                await _write(reply, stay, send)
        except TimeoutError:
            await _hang_up(scope, receive)
        except (OSError, RuntimeError) as error:  # uvloop's, where the client left between two pieces.
            log.info("A response could not be sent: %s", error)

    def is_responsive(self) -> bool:
        """Whether the threads take work up. Each call puts a task that does nothing into their queue, if none is there."""
        if self._probe is None or self._probe.done():
            self._probe, self._probed_at = self._threads.submit(_nothing), monotonic()
        return monotonic() - self._probed_at < _UNRESPONSIVE_S

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        if is_upload(scope["method"], scope["path"]) and await self._admits(scope):
            return await self._answer_upload(scope, receive)
        body = await self._read(scope, receive)
        if self._at_once >= _MOST_AT_ONCE or self._held_bytes + len(body) > _ROOM_BYTES:
            raise SiteBusy
        self._at_once += 1
        self._held_bytes += len(body)
        try:
            return await self._in_thread(self._run, _environ(scope, BytesIO(body), len(body)))
        finally:
            self._at_once -= 1
            self._held_bytes -= len(body)

    async def _admits(self, scope: Scope) -> bool:
        """Whether whoever sends an upload may send much; who may not is read like any other request."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        peer = scope["client"][0] if scope.get("client") else ""
        try:
            return await self._in_thread(_admit, scope["path"], headers, peer)
        except OperationalError as error:
            message = "The database cannot be read."
            raise StorageUnavailable(message) from error

    async def _answer_upload(self, scope: Scope, receive: Receive) -> Reply:
        """Have Django read the body from the disk, where it was put piece by piece."""
        if self._uploads >= MAX_UPLOADS:
            raise SiteBusy
        self._uploads += 1
        try:
            async with spooled(scope, receive) as (body, size):
                return await self._in_thread(self._run, _environ(scope, body, size))
        finally:
            self._uploads -= 1

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        run = copy_context().run
        return await asyncio.get_running_loop().run_in_executor(self._threads, run, work, *arguments)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """Read the whole body; raise BodyTooLarge, BodyTooSlow or BodyIncomplete."""
        try:
            async with self._incoming.stay(timeout_s=_BODY_S) as stay:

                async def receive_counted() -> Message:
                    message = await receive()
                    stay.take(len(message.get("body", b"")))
                    return message

                return await Request(scope, receive_counted).read_body(_most_bytes(scope["path"]))
        except TimeoutError:
            message = f"The body did not come within {_BODY_S:g} s, or others needed its room."
            raise BodyTooSlow(message) from None

    def _run(self, environ: dict[str, Any]) -> Reply:
        """Have Django answer, in one of the threads; return all of it."""
        started: list[tuple[str, list[tuple[str, str]]]] = []
        written: list[bytes] = []

        def start_response(status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> Callable[[bytes], None]:
            started.append((status, headers))
            return written.append

        chunks = self._application(environ, start_response)
        try:
            written.extend(chunks)
        finally:
            if close := getattr(chunks, "close", None):
                close()
        status, headers = started[-1]
        encoded: Headers = [(name.encode("latin-1").lower(), value.encode("latin-1")) for name, value in headers]
        return Reply(status=int(status[:3]), headers=encoded, body=b"".join(written))


def _most_bytes(path: str) -> int:
    """Return the largest body that an address takes: a batch's file is larger than any form."""
    return settings.MAX_BATCH_BYTES + _MULTIPART_BYTES if path == "/v1/batches" else settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def _admit(path: str, headers: Mapping[str, str], peer: str) -> bool:
    close_old_connections()  # This is no request of Django's, which would see to it.
    return admit_upload(path, headers, peer=peer)


def _nothing() -> None:
    """Be done."""


def _environ(scope: Scope, body: IO[bytes], size: int) -> dict[str, Any]:
    # Names with an underscore are dropped, as nginx does: in WSGI X_Forwarded_For would pass for X-Forwarded-For.
    headers = [(name, value) for name, value in scope["headers"] if b"_" not in name and name != b"transfer-encoding"]
    environ: dict[str, Any] = dict(build_environ({**scope, "headers": headers, "query_string": b""}, body))  # type: ignore[typeddict-item, arg-type]
    environ["QUERY_STRING"] = scope["query_string"].decode("latin-1")
    environ["CONTENT_LENGTH"] = str(size)  # Also of a chunked one: Django reads no further than this.
    return environ


def _refuse(error: MarketplaceError | StorageUnavailable, request: Request) -> Reply:
    """Return a refusal, as the REST API has them below /v1/ and as plain text elsewhere."""
    reply = refusal(error, request)
    if not request.path.startswith("/v1/"):
        reply.headers = [(b"content-type", b"text/plain; charset=utf-8"), *reply.headers[1:]]
        reply.body = f"{problem_of(error).title}. {getattr(error, 'detail', '') or problem_of(error).happened}\n".encode()
    if reply.status in {408, 413}:  # The rest of the body may still come, and is not read.
        reply.headers.append((b"connection", b"close"))
    return reply


async def _write(reply: Reply, stay: Stay, send: Send) -> None:
    """Write a reply, piece by piece as the client reads."""
    stay.take(len(reply.body))
    if reply.status not in {204, 304} and not any(name == b"content-length" for name, _ in reply.headers):
        reply.headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    for start in range(0, max(1, len(reply.body)), _PIECE_BYTES):
        end = start + _PIECE_BYTES
        stay.renew(_PIECE_S)
        await send({"type": "http.response.body", "body": reply.body[start:end], "more_body": end < len(reply.body)})


async def _hang_up(scope: Scope, receive: Receive) -> None:
    """End a connection whose client does not read, and wait until the server knows."""
    if hang_up := scope.get("farebox.hang_up"):
        hang_up()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                while (await receive())["type"] != "http.disconnect":
                    pass
