"""A client that hangs up while its call waits: the call is dropped, not run and not charged."""

import json
import socket
import threading
import time

from tests.flows.calls import Answer, Caller
from tests.flows.raw import publish_raw
from tests.flows.server import Site
from tests.inference.models import slow_model

# The model loops 20,000 times for each unit of its largest id: half a second or so.
_SLOW = 12


def _body(number: int) -> bytes:
    return json.dumps({"input_data": {"ids": [[number]], "lengths": [1]}}).encode()


def _begin(site: Site, address: str, body: bytes) -> socket.socket:
    """Send a whole request, and do not wait for the answer."""
    client = socket.create_connection(("127.0.0.1", site.port), timeout=10)
    head = f"POST {address}/predict HTTP/1.1\r\nHost: site\r\nAuthorization: Bearer {site.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    return client


def test_a_call_whose_client_hangs_up_in_the_queue_is_never_run_nor_charged(site: Site) -> None:
    address = publish_raw(site, slow_model(), name="slow", unit="call")
    caller = Caller(site.port, site.key)
    assert caller.post(f"{address}/predict", raw=_body(0)).status == 200  # Loaded.
    workers = len(site.worker_pids())
    before = site.charged()
    answers: list[Answer] = []

    def occupy() -> None:
        answers.append(Caller(site.port, site.key).post(f"{address}/predict", raw=_body(_SLOW * 2)))

    busy = [threading.Thread(target=occupy) for _ in range(workers)]
    for thread in busy:
        thread.start()
    time.sleep(0.3)
    # Behind the busy workers; were it run, it would take half a minute.
    leaver = _begin(site, address, _body(_SLOW * 100))
    time.sleep(0.2)
    leaver.close()
    for thread in busy:
        thread.join()
    started = time.monotonic()
    assert caller.post(f"{address}/predict", raw=_body(0)).status == 200
    assert time.monotonic() - started < 5
    assert [answer.status for answer in answers] == [200] * workers
    assert site.charged() - before == 1_000 * (workers + 1)
    deadline = time.monotonic() + 5
    while site.query("SELECT COUNT(*) FROM marketplace_requestlog WHERE code = 'caller_left'") != 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
