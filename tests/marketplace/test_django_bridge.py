"""The bridge before Django's threads, with a small WSGI application behind it."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from marketplace import django_bridge
from marketplace.django_bridge import DjangoBridge
from marketplace.gateway.request import Message

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def scope_of(path: str = "/", *headers: tuple[bytes, bytes], query: bytes = b"") -> dict[str, Any]:
    return {
        "type": "http", "method": "POST", "path": path, "query_string": query, "http_version": "1.1", "scheme": "http",
        "headers": list(headers), "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip


def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["wsgi.input"].read(), b"|", environ["QUERY_STRING"].encode("latin-1")]


async def ask(bridge: DjangoBridge, scope: dict[str, Any], *pieces: bytes | None) -> tuple[int, dict[bytes, bytes], bytes]:
    """Send a request whose body comes in pieces (None: the client goes away); return status, headers and body."""
    coming = list(pieces or (b"",))
    sent: list[Message] = []

    async def receive() -> Message:
        if not coming:
            await asyncio.Event().wait()
        piece = coming.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(coming) or piece == b"..."}

    async def send(message: Message) -> None:
        sent.append(message)

    await bridge(scope, receive, send)
    if not sent:
        return 0, {}, b""
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(message["body"] for message in sent[1:])


def test_a_body_in_pieces_arrives_whole_and_its_answer_has_a_length() -> None:
    status, headers, body = asyncio.run(ask(DjangoBridge(echo), scope_of(query=b"a=\xff"), b"first ", b"second"))

    assert (status, body) == (200, b"first second|a=\xff")
    assert headers[b"content-length"] == b"16"


def test_a_header_with_an_underscore_does_not_pass_for_a_proxys() -> None:
    def forwarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [environ["HTTP_X_FORWARDED_FOR"].encode()]

    scope = scope_of("/", (b"x-forwarded-for", b"10.0.0.1"), (b"x_forwarded_for", b"10.6.6.6"))

    assert asyncio.run(ask(DjangoBridge(forwarded), scope))[2] == b"10.0.0.1"


@pytest.mark.parametrize(("path", "kind"), [("/accounts/login/", b"text/plain; charset=utf-8"), ("/v1/keys", b"application/problem+json")])
def test_a_slow_body_is_408_and_never_reaches_the_threads(monkeypatch: pytest.MonkeyPatch, path: str, kind: bytes) -> None:
    monkeypatch.setattr(django_bridge, "_BODY_S", 0.1)
    asked = []

    status, headers, _ = asyncio.run(ask(DjangoBridge(lambda *seen: asked.append(seen) or []), scope_of(path), b"..."))

    assert (status, headers[b"content-type"], headers[b"connection"]) == (408, kind, b"close")
    assert not asked


def test_a_large_body_is_413() -> None:
    assert asyncio.run(ask(DjangoBridge(echo), scope_of(), b"a" * 2_000_000, b"a" * 2_000_000))[0] == 413


def test_a_client_that_leaves_within_its_body_is_told_nothing() -> None:
    assert asyncio.run(ask(DjangoBridge(echo), scope_of(), b"a", None)) == (0, {}, b"")


def test_more_than_the_threads_can_take_is_503_and_health_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_bridge, "_MOST_AT_ONCE", 8)
    monkeypatch.setattr(django_bridge, "_UNRESPONSIVE_S", 0.2)
    gate = threading.Event()

    def wait(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        gate.wait(10)
        start_response("200 OK", [])
        return []

    async def crowd() -> None:
        bridge = DjangoBridge(wait)
        waiting = [asyncio.create_task(ask(bridge, scope_of())) for _ in range(8)]
        await asyncio.sleep(0.1)
        assert bridge.is_responsive()

        status, headers, _ = await ask(bridge, scope_of())
        assert (status, headers[b"retry-after"]) == (503, b"1")
        await asyncio.sleep(0.3)
        assert not bridge.is_responsive()

        gate.set()
        assert [answer[0] for answer in await asyncio.gather(*waiting)] == [200] * 8
        await asyncio.sleep(0.05)
        assert bridge.is_responsive()

    asyncio.run(crowd())


def test_when_bodies_fill_their_room_the_oldest_makes_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_bridge, "_ROOM_BYTES", 3_000_000)

    async def crowd() -> None:
        bridge = DjangoBridge(echo)
        slow = [asyncio.create_task(ask(bridge, scope_of(), b"a" * 1_300_000, b"...")) for _ in range(2)]
        await asyncio.sleep(0.05)

        assert (await ask(bridge, scope_of(), b"a" * 1_000_000, b"b"))[0] == 200
        await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED, timeout=1)
        assert [task.done() for task in slow] == [True, False]
        assert slow[0].result()[0] == 408
        slow[1].cancel()

    asyncio.run(crowd())


def test_a_client_that_does_not_read_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_bridge, "_PIECE_S", 0.1)
    gone = asyncio.Event()

    async def deaf() -> None:
        first = True

        async def receive() -> Message:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            await asyncio.Event().wait()

        await DjangoBridge(echo)({**scope_of(), "farebox.hang_up": gone.set}, receive, send)

    asyncio.run(asyncio.wait_for(deaf(), 2))

    assert gone.is_set()
