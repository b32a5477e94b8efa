"""An upload's body on disk: written as it comes, counted, and gone when the request is answered."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO, Final

from django.conf import settings

from billing.errors import StorageUnavailable
from marketplace.errors import BodyIncomplete, BodyTooLarge, BodyTooSlow
from marketplace.gateway.request import Receive, Scope

# Uploads at once: each takes a thread of Django's at its end, of which there are eight, and room on the disk.
MAX_UPLOADS: Final = 4
# For each piece, and for all: 288 MB at 0.5 MB/s.
_PIECE_S: Final = 20.0
_BODY_S: Final = 600.0
# Written in one go, off the event loop: a busy disk must not stop calls.
_WRITE_BYTES: Final = 2**20
# What the disk keeps for the database and the logs.
_RESERVE_BYTES: Final = 256 * 2**20


@asynccontextmanager
async def spooled(scope: Scope, receive: Receive) -> AsyncIterator[tuple[IO[bytes], int]]:
    """Give the body as a file at its start, with its size, for the block.

    Raises:
        BodyTooLarge, BodyTooSlow, BodyIncomplete: it is not what may be sent.
        StorageUnavailable: the disk has no room for it.
    """
    limit = settings.MAX_UPLOAD_MB * 2**20
    declared = _declared_bytes(scope)
    if declared > limit:
        raise _too_large()
    # Twice: Django writes each file of the form once more.
    if shutil.disk_usage(settings.VAR_DIR).free < 2 * (declared or limit) + _RESERVE_BYTES:
        message = "The disk has no room for an upload."
        raise StorageUnavailable(message)
    with tempfile.TemporaryFile(dir=settings.VAR_DIR, prefix="upload-") as file:
        try:
            async with asyncio.timeout(_BODY_S):
                size = await _write_body(file, receive, limit=limit)
        except TimeoutError:
            message = f"No part of the body came for {_PIECE_S:g} s, or not all of it within {_BODY_S:g} s."
            raise BodyTooSlow(message) from None
        file.seek(0)
        yield file, size


async def _write_body(file: IO[bytes], receive: Receive, *, limit: int) -> int:
    size, waiting = 0, bytearray()
    while True:
        async with asyncio.timeout(_PIECE_S):
            message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyIncomplete
        waiting += message.get("body", b"")
        is_last = not message.get("more_body", False)
        if size + len(waiting) > limit:
            raise _too_large()
        if waiting and (is_last or len(waiting) >= _WRITE_BYTES):
            size += len(waiting)
            await _write(file, waiting)
            waiting = bytearray()
        if is_last:
            return size


async def _write(file: IO[bytes], content: bytearray) -> None:
    try:
        await asyncio.to_thread(file.write, content)
    except OSError as error:
        message = "The disk is full."
        raise StorageUnavailable(message) from error


def _declared_bytes(scope: Scope) -> int:
    """Return what Content-Length says; 0 where the body comes in chunks."""
    text = dict(scope["headers"]).get(b"content-length", b"0")
    return int(text) if text.isdigit() else 0


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"An upload may have {settings.MAX_UPLOAD_MB} MB.")
