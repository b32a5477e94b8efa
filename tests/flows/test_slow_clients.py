"""Clients that dribble, flood or do not read, without a key: everybody else must not notice."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from tests.flows.calls import Caller
from tests.flows.server import Site

PATIENCE_S = 3.0
BIG = "/static/drf_spectacular_sidecar/redoc/bundles/redoc.standalone.js"  # 1 MB.
LINE = b"GET /healthy HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@contextmanager
def connections(site: Site, count: int, *, receive_buffer_bytes: int | None = None) -> Iterator[list[socket.socket]]:
    """Open that many bare connections; close them at the end, read or not."""
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            client = stack.enter_context(closing(socket.socket()))
            if receive_buffer_bytes:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            client.settimeout(15)
            client.connect(("127.0.0.1", site.port))
            opened.append(client)
        yield opened


def assert_others_are_served(site: Site) -> None:
    caller = Caller(site.port, site.key)
    caller._connection.timeout = PATIENCE_S
    for ask in (lambda: caller.get("/"), lambda: caller.get("/v1/keys"), caller.predict, lambda: caller.get("/readyz")):
        began = time.monotonic()
        answer = ask()
        assert answer.status == 200, answer.body
        assert time.monotonic() - began < PATIENCE_S


def read_all(client: socket.socket) -> bytes:
    """Return what comes until the connection ends, however it ends."""
    received = b""
    with suppress(ConnectionError):
        while piece := client.recv(65536):
            received += piece
    return received


def send_until_refused(client: socket.socket, piece: bytes, *, times: int) -> int:
    """Send a piece again and again; return how many bytes went before the site hung up."""
    sent = 0
    with suppress(ConnectionError):
        for _ in range(times):
            client.sendall(piece)
            sent += len(piece)
    return sent


def resident_mb(site: Site) -> int:
    """Return the gateway's memory."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{site.gateway_pid()}/status").read_text())
    assert found
    return int(found[1]) // 1024


def test_clients_that_pipeline_big_files_and_hang_up_hold_no_thread(site: Site) -> None:
    with connections(site, 10, receive_buffer_bytes=2048) as clients:
        for client in clients:
            client.sendall(f"GET {BIG} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * 8)
        time.sleep(2)
        assert_others_are_served(site)

    time.sleep(1)
    assert_others_are_served(site)


def test_slow_bodies_hold_no_thread_and_are_told_408(site: Site) -> None:
    began = time.monotonic()
    with connections(site, 40) as clients:
        for number, client in enumerate(clients):
            path = ("/accounts/login/", "/v1/keys")[number % 2]
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\ncsrf".encode())
        time.sleep(0.5)
        assert_others_are_served(site)

        page, api = read_all(clients[0]), read_all(clients[1])

    assert 9 < time.monotonic() - began < 14
    assert page.startswith(b"HTTP/1.1 408 ")
    assert b"text/plain" in page
    assert api.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in api


def test_a_body_larger_than_pages_take_is_413_before_it_is_read(site: Site) -> None:
    with connections(site, 2) as (page, api):
        page.sendall(b"POST /accounts/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900000000\r\n\r\n")
        api.sendall(b"POST /v1/keys HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = send_until_refused(api, b"10000\r\n" + b"a" * 65536 + b"\r\n", times=2000)

        assert read_all(page).startswith(b"HTTP/1.1 413 ")
        assert sent < 40_000_000  # What the sockets' buffers hold comes on top of the 2.5 MB.


def test_a_flood_of_headers_is_431_and_delays_nobody(site: Site) -> None:
    before = resident_mb(site)
    with connections(site, 3) as (many, endless, trailers):
        send_until_refused(many, LINE + b"a: b\r\n" * 150_000 + b"\r\n", times=1)
        assert_others_are_served(site)
        endless.sendall(LINE + b"X-A: ")
        sent = send_until_refused(endless, b"a" * 1_000_000, times=150)
        trailers.sendall(b"POST /accounts/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n")
        sent += send_until_refused(trailers, b"a: b\r\n" * 100_000, times=150)
        assert_others_are_served(site)

    assert sent < 40_000_000
    assert resident_mb(site) - before < 30


def test_more_than_100_headers_are_431_and_the_connection_ends(site: Site) -> None:
    with connections(site, 2) as (enough, too_many):
        enough.sendall(LINE + b"a: b\r\n" * 98 + b"Connection: close\r\n\r\n")
        too_many.sendall(LINE + b"a: b\r\n" * 100 + b"\r\n")

        assert read_all(enough).startswith(b"HTTP/1.1 404 ")
        assert read_all(too_many).startswith(b"HTTP/1.1 431 ")


def test_a_head_of_more_than_64_kb_is_431(site: Site) -> None:
    with connections(site, 1) as (client,):
        client.sendall(LINE + b"X-A: " + b"a" * 66_000 + b"\r\n")

        assert read_all(client).startswith(b"HTTP/1.1 431 ")
