"""Bad calls against a running site: the right status and code, nothing charged, nothing secret shown."""

import http.client
import json
import socket
from contextlib import closing
from typing import Any

import pytest

from tests.flows.calls import FILM, PREDICT, Caller
from tests.flows.server import Site

NOT_JSON = [
    (b"", "request_malformed"),
    (b"{", "request_malformed"),
    (b'"text"', "request_malformed"),
    (b"[" * 20_000 + b"]" * 20_000, "request_malformed"),
    (b'{"input_data": NaN}', "request_malformed"),
    (b'{"input_data": [1e999]}', "request_malformed"),
    (b'{"input_data": "a", "input_data": "b"}', "request_malformed"),
    (b'{"input_data": "\xff"}', "request_malformed"),
    (b'{"inputs": "a"}', "request_malformed"),
    (b'{"input_data": "a", "stream": true}', "request_malformed"),
    (b'{"input_data": "a", "parameters": []}', "request_malformed"),
]
NOT_INPUT: list[object] = [
    {"input_data": 5},
    {"input_data": None},
    {"input_data": []},
    {"input_data": ""},
    {"input_data": "   "},
    {"input_data": ["fine", ""]},
    {"input_data": ["fine", 7]},
    {"input_data": [["nested"]]},
    {"input_data": {"text": "a"}},
    {"input_data": ["a"] * 257},
    {"input_data": "a " * 60_000},
    {"input_data": "a", "parameters": {"top_k": 0}},
    {"input_data": "a", "parameters": {"top_k": "2"}},
    {"input_data": "a", "parameters": {"top_k": True}},
    {"input_data": "a", "parameters": {"temperature": 1}},
]


@pytest.fixture
def caller(site: Site) -> Caller:
    """A connection with the demo organization's key."""
    return Caller(site.port, site.key)


def assert_refused(answer: Any, status: int, code: str) -> None:
    assert (answer.status, answer.code) == (status, code), answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["request-id"] == answer.json()["request_id"]
    assert answer.json()["type"].endswith(f"/docs/errors/{code}")
    assert "Traceback" not in answer.body.decode()


@pytest.mark.parametrize(("body", "code"), NOT_JSON, ids=lambda value: repr(value)[:30])
def test_a_body_that_is_not_our_json_is_400(site: Site, caller: Caller, body: bytes, code: str) -> None:
    before = site.charged()

    assert_refused(caller.post(PREDICT, raw=body), 400, code)

    assert site.charged() == before


@pytest.mark.parametrize("body", NOT_INPUT, ids=lambda value: json.dumps(value)[:40])
def test_input_that_the_model_does_not_take_is_422(site: Site, caller: Caller, body: object) -> None:
    before = site.charged()

    assert_refused(caller.post(PREDICT, body), 422, "invalid_input")

    assert site.charged() == before


def test_a_huge_body_is_413_before_it_is_read(site: Site, caller: Caller) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as raw:
        raw.sendall(
            f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {site.key}\r\nContent-Length: 99999999999\r\n\r\n".encode()
        )
        reply = raw.recv(65536)

    assert reply.startswith(b"HTTP/1.1 413")
    assert caller.predict().status == 200


def test_a_chunked_body_is_capped_as_well(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    chunks = (b" " * 65536 for _ in range(100))
    with closing(connection):
        connection.request("POST", PREDICT, chunks, {"Authorization": f"Bearer {site.key}"}, encode_chunked=True)
        assert connection.getresponse().status == 413


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "key_missing"),
        ("garbage", "key_malformed"),
        ("fb_sk_live_" + "0" * 38, "key_mistyped"),
    ],
)
def test_a_bad_key_is_401_and_says_how(site: Site, key: str | None, code: str) -> None:
    answer = Caller(site.port, key).predict()

    assert_refused(answer, 401, code)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_key_with_one_character_changed_is_told_so_and_not_shown(site: Site) -> None:
    wrong = site.key[:20] + ("A" if site.key[20] != "A" else "B") + site.key[21:]

    answer = Caller(site.port, wrong).predict()

    assert_refused(answer, 401, "key_mistyped")
    assert wrong not in answer.body.decode()
    assert wrong not in site.log_text()
    assert site.key not in site.log_text()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/farebox/nothing/predict",
        "/v1/models/nobody/sentiment/predict",
        "/v1/models/farebox/sentiment@99/predict",
    ],
)
def test_an_unknown_model_is_404(site: Site, caller: Caller, path: str) -> None:
    before = site.charged()

    assert_refused(caller.post(path, FILM), 404, "model_not_found")

    assert site.charged() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Timeout-Ms", "0"),
        ("X-Timeout-Ms", "soon"),
        ("X-Timeout-Ms", "9" * 5000),
        ("X-Max-Cost", "-1"),
        ("X-Max-Cost", "a lot"),
        ("Idempotency-Key", ""),
        ("Idempotency-Key", "k" * 256),
    ],
)
def test_a_header_that_cannot_be_used_is_400_and_named(site: Site, caller: Caller, name: str, value: str) -> None:
    answer = caller.post(PREDICT, FILM, headers={name: value})

    assert_refused(answer, 400, "header_invalid")
    assert answer.json()["errors"][0]["param"] == name.lower()


def test_a_call_that_could_cost_more_than_its_x_max_cost_is_402(site: Site, caller: Caller) -> None:
    before = site.charged()

    refused = caller.predict(x_max_cost="0.000000001")
    assert_refused(refused, 402, "max_cost_exceeded")
    assert {name: refused.json()[name] for name in ("policy", "limit", "asked")} == {
        "policy": "x_max_cost",
        "limit": "0.000000001",
        "asked": "0.000001000",
    }

    assert site.charged() == before
    assert caller.predict(x_max_cost="0.01").status == 200


def test_another_method_is_405(site: Site) -> None:
    answer = Caller(site.port, site.key).get(PREDICT)

    assert answer.status in {404, 405}
    assert answer.headers["content-type"] == "application/problem+json"


def test_every_code_that_the_gateway_answers_has_its_page(site: Site, caller: Caller) -> None:
    code = caller.post(PREDICT, raw=b"{").code

    page = Caller(site.port, None).get(f"/docs/errors/{code}")

    assert page.status == 200
    assert code in page.body.decode()
