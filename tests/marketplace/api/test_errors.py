from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError

from marketplace.problems import PROBLEMS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"text"',
        b"{",
        b'{"name": "a", "name": "b"}',
        b'{"name": NaN}',
        b"\xff",
        b"[" * 20_000,
        b'{"name": ' + b"[" * 100 + b"]" * 100 + b"}",
    ],
)
def test_a_body_that_is_no_plain_object_is_a_400(api: Any, body: bytes) -> None:
    reply = api.post("/v1/keys", body)

    assert (reply.status_code, reply.json()["code"]) == (400, "request_malformed")


def test_a_large_body_is_not_read(api: Any) -> None:
    reply = api.post("/v1/keys", b'{"name": "' + b"a" * 100_000 + b'"}')

    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
def test_json_is_read_whatever_the_content_type(api: Any, content_type: str) -> None:
    reply = api.client.generic("POST", "/v1/keys", b'{"name": "a"}', content_type, headers=api.headers)

    assert reply.status_code == 201


def test_an_unknown_address_is_a_problem_too(api: Any) -> None:
    for method in ("GET", "POST", "PATCH", "DELETE", "PUT"):
        reply = api.send(method, "/v1/nothing/here")
        assert (reply.status_code, reply.json()["code"]) == (404, "not_found")
        assert reply.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("DELETE", "/v1/keys", "GET, POST"), ("PUT", "/v1/organization", "GET"), ("OPTIONS", "/v1/keys", "GET, POST")],
)
def test_a_method_that_an_address_lacks_is_told_which_it_has(api: Any, method: str, path: str, allow: str) -> None:
    reply = api.send(method, path)

    assert (reply.status_code, reply.json()["code"]) == (405, "method_not_allowed")
    assert set(allow.split(", ")) <= set(reply.headers["Allow"].split(", ")) <= {*allow.split(", "), "HEAD"}


def test_the_gateways_address_takes_posts_alone(api: Any) -> None:
    reply = api.get("/v1/models/farebox/sentiment/predict")

    assert (reply.status_code, reply.headers["Allow"]) == (405, "POST")
    # A POST gets here only while no gateway runs.
    reply = api.post("/v1/models/farebox/sentiment@1/predict")
    assert (reply.status_code, reply.json()["code"]) == (503, "engine_stopping")
    assert int(reply.headers["Retry-After"]) >= 1


def test_a_fault_of_ours_shows_nothing_of_itself(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        message = "secret internals"
        raise RuntimeError(message)

    monkeypatch.setattr("marketplace.api.organization.balance", fail)
    reply = api.get("/v1/balance")

    assert (reply.status_code, reply.json()["code"]) == (500, "internal_error")
    assert "internals" not in reply.content.decode()


def test_a_locked_database_is_a_503_with_a_time_to_come_back(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        message = "database is locked"
        raise OperationalError(message)

    monkeypatch.setattr("marketplace.api.organization.balance", fail)
    reply = api.get("/v1/balance")

    assert (reply.status_code, reply.json()["code"], reply.headers["Retry-After"]) == (503, "storage_unavailable", "2")


def test_every_answer_has_an_id_and_is_not_stored(api: Any, make_api: Callable[..., Any]) -> None:
    for reply in (api.get("/v1/keys"), api.get("/v1/nothing"), api.post("/v1/keys", {}), api.delete("/v1/keys")):
        assert reply.headers["Request-Id"].startswith("req_")
        assert reply.headers["Cache-Control"] == "no-store"


def test_a_problem_names_its_documentation(api: Any, settings: Any) -> None:
    problem = api.get("/v1/nothing").json()

    assert problem["type"] == f"{settings.SITE_URL}/docs/errors/not_found"
    assert (problem["title"], problem["status"]) == (PROBLEMS["not_found"].title, 404)
