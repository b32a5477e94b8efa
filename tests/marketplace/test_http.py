"""The bounded protocol on a real socket: late heads, idle and deaf clients, pipelines that break off."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from marketplace import http

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_HEAD_S", 0.3)
    monkeypatch.setattr(http, "_WRITE_STALL_S", 0.3)


async def answer_ok(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def connected(app: Any) -> AsyncIterator[Streams]:
    config = Config(app, http=http.BoundedProtocol, ws="none", log_config=None, timeout_keep_alive=5)
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: http.BoundedProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0)
    streams = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield streams
    finally:
        streams[1].close()
        server.close()


def on_connection(app: Any, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]) -> Any:
    """Talk to an app over one connection; return what `talk` does."""

    async def run() -> Any:
        async with asyncio.timeout(10), connected(app) as streams:
            return await talk(*streams)

    return asyncio.run(run())


def test_a_connection_that_sends_nothing_is_closed() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return await reader.read()

    assert on_connection(answer_ok, talk) == b""


@pytest.mark.parametrize("before", [b"", GET])
def test_a_head_that_is_dribbled_is_told_408(before: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(before)
        if before:
            await reader.readuntil(b"ok")
        writer.write(GET[:20])
        return await reader.read()

    assert on_connection(answer_ok, talk).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "request_",
    [[GET], [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", b"0\r\n\r\n"]],
    ids=["whole", "the body's end alone"],
)
def test_an_idle_connection_lives_as_long_as_uvicorn_keeps_it(request_: list[bytes]) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            for piece in request_:
                writer.write(piece)
                await asyncio.sleep(0.05)
            await reader.readuntil(b"ok")
            await asyncio.sleep(0.7)

    on_connection(answer_ok, talk)


def test_a_slow_answer_outlives_the_deadline_for_heads() -> None:
    async def answer_late(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.8)
        await answer_ok(scope, receive, send)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GET + GET[:20])  # Half a head behind it.
        await reader.readuntil(b"ok")
        writer.write(GET[20:])
        await reader.readuntil(b"ok")

    on_connection(answer_late, talk)


def test_a_client_that_does_not_read_is_cut_off_and_its_task_ends() -> None:
    ended = asyncio.Event()

    async def answer_much(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(300):
            await send({"type": "http.response.body", "body": b"a" * 65536, "more_body": True})
        ended.set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GET)
        await ended.wait()

    on_connection(answer_much, talk)


def test_the_request_being_answered_learns_that_its_client_left_though_others_wait_behind_it() -> None:
    left = asyncio.Event()

    async def wait_for_leaving(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GET * 3)
        await asyncio.sleep(0.1)
        writer.close()
        await left.wait()

    on_connection(wait_for_leaving, talk)


def test_more_than_a_few_pipelined_requests_end_the_connection() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
        writer.write(GET * 10)
        for _ in range(10):
            await reader.readuntil(b"ok")
        writer.write(GET * 50)
        return 10, await reader.read()

    answered, rest = on_connection(answer_ok, talk)

    assert answered == 10
    assert rest.count(b"200 OK") < 50


def test_trailers_do_not_pass_for_headers() -> None:
    seen = []

    async def note_headers(scope: Any, receive: Any, send: Any) -> None:
        await answer_ok(scope, receive, send)
        seen.extend(name for name, _ in scope["headers"])

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n")
        await reader.readuntil(b"ok")
        await asyncio.sleep(0)

    on_connection(note_headers, talk)

    assert seen == [b"host", b"transfer-encoding"]


async def answer_at_once(scope: Any, receive: Any, send: Any) -> None:
    """As the gateway does, with what it finds in its scope; by ASGI where that says no."""
    connection = scope["farebox.connection"]
    body = connection.take_body()
    how = b"taken" if body is not None else b"received"
    if body is None:
        message = {"more_body": True}
        body = b""
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
    reply = b"%b %d" % (how, len(body))
    if not connection.write_reply(200, [(b"x-how", how)], reply):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(reply))]})
        await send({"type": "http.response.body", "body": reply})


def test_a_request_that_came_whole_is_taken_and_answered_in_one_write() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        for _ in range(2):  # The connection lives on.
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            answer = await reader.readuntil(b"taken 5")
        return answer

    head, _, body = on_connection(answer_at_once, talk).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert b"x-how: taken" in lines
    assert b"content-length: 7" in lines
    assert body == b"taken 5"


def test_two_requests_in_one_piece_are_each_answered() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        one = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
        writer.write(one % (5, b"hello") + one % (2, b"ho"))
        return await reader.readuntil(b"taken 5") + await reader.readuntil(b"taken 2")

    assert on_connection(answer_at_once, talk).count(b"HTTP/1.1 200 OK") == 2


def test_a_body_that_is_still_coming_is_left_to_receive() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
        await asyncio.sleep(0.1)
        writer.write(b"llo")
        return await reader.readuntil(b"received 5")

    assert b"x-how: received" in on_connection(answer_at_once, talk)


def test_a_connection_that_is_to_be_closed_is_closed() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return await reader.read()

    answer = on_connection(answer_at_once, talk)
    assert b"connection: close" in answer
    assert answer.endswith(b"taken 0")


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb"])
def test_a_header_with_a_line_break_is_not_written(value: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(ValueError, match="line break"):
            scope["farebox.connection"].write_reply(200, [(b"x", value)], b"")
        await answer_at_once(scope, receive, send)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(GET)
        return await reader.readuntil(b"taken 0")

    assert b"set-cookie" not in on_connection(app, talk)
