"""Bodies that dribble: what changed meanwhile counts, and nobody holds a place for long."""

import socket
import time

from tests.flows.calls import FILM, PREDICT, Caller
from tests.flows.server import Site

BODY = b'{"input_data": ["good"]}'


def begin_call(site: Site, key: str) -> socket.socket:
    """Send a call's head and the first bytes of its body."""
    connection = socket.create_connection(("127.0.0.1", site.port), timeout=20)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    connection.sendall(head.encode() + BODY[:5])
    return connection


def end_call(connection: socket.socket) -> bytes:
    """Send the rest, and return the answer's beginning."""
    with connection:
        connection.sendall(BODY[5:])
        return connection.recv(65536)


def test_a_key_revoked_while_its_body_dribbles_is_refused(site: Site) -> None:
    key = site.issue_key(name="dribbles")
    connection = begin_call(site, key["secret"])
    time.sleep(0.3)

    site.revoke_key(key["id"])
    time.sleep(1.0)

    assert end_call(connection).startswith(b"HTTP/1.1 401")
    assert site.events_of(key["id"]) == 0


def test_a_cap_lowered_while_a_body_dribbles_holds(site: Site) -> None:
    key = site.issue_key(name="dribbles under a cap", monthly_cap_nanos=1_000_000)
    assert Caller(site.port, key["secret"]).predict({"input_data": "good"}).status == 200
    connection = begin_call(site, key["secret"])
    time.sleep(0.3)

    assert Caller(site.port, site.key).patch(f"/v1/keys/{key['id']}", {"monthly_cap": "0"}).status == 200
    time.sleep(1.5)

    assert end_call(connection).startswith(b"HTTP/1.1 402")
    assert site.events_of(key["id"]) == 1


def test_a_body_that_never_comes_is_408_and_gives_its_place_back(site: Site) -> None:
    with begin_call(site, site.key) as connection:
        connection.settimeout(20)
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body_too_slow" in answer


def test_one_who_does_not_read_does_not_hold_up_what_others_had_delivered(site: Site) -> None:
    """The mark below which all is delivered moves on; were it to stall, a crash would refund everybody."""
    texts = b'{"input_data": [' + b", ".join([b'"good"'] * 250) + b"]}"
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {site.key}\r\nContent-Length: {len(texts)}\r\n\r\n"
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", site.port))
        deaf.setblocking(False)
        try:
            for _ in range(400):
                deaf.send(head.encode() + texts)
        except BlockingIOError:
            pass  # The server reads no further requests either.
        time.sleep(3)
        assert Caller(site.port, site.key).predict(FILM).status == 200
        deadline = time.monotonic() + 25
        marks = "SELECT (SELECT MAX(seq) FROM billing_usageevent) - (SELECT MAX(delivered_seq) FROM billing_gatewayprocess)"
        while site.query(marks) != 0:
            assert time.monotonic() < deadline, "the mark of what was delivered stalls"
            time.sleep(0.5)


def test_refusals_of_one_key_fill_no_more_than_a_few_lines_a_minute(site: Site) -> None:
    key = site.issue_key(name="floods")
    caller = Caller(site.port, key["secret"])

    statuses = {caller.post("/v1/models/farebox/absent/predict", FILM).status for _ in range(200)}

    time.sleep(1)
    assert statuses == {404}
    lines = "SELECT COUNT(*) FROM marketplace_requestlog AS line JOIN marketplace_apikey AS key ON key.id = line.key_id WHERE key.name = ?"
    assert 0 < site.query(lines, "floods") <= 40
