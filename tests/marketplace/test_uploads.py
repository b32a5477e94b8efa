"""Large bodies: who may send one is asked before it is read, and it lies on the disk while it comes."""

import asyncio
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import pytest
from django.conf import settings as site
from django.contrib.auth import SESSION_KEY

from marketplace import django_bridge, spool
from marketplace.django_bridge import DjangoBridge
from marketplace.errors import KeyMissing, KeyUnknown, ScopeMissing
from marketplace.gateway.request import Message
from marketplace.gateway.routing import is_gateways
from marketplace.uploads import admit_upload, is_upload
from tests.marketplace.test_django_bridge import ask, echo, scope_of

UPLOAD = "/v1/models/acme/relu/versions"
PIECE = b"x" * 2**20


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", UPLOAD, True),
        ("POST", "/publish/new/", True),
        ("POST", "/publish/model/relu/new/", True),
        ("GET", UPLOAD, False),
        ("POST", "/v1/models/acme/relu/versions/1/live", False),
        ("POST", "/publish/relu/1/live/", False),
        ("POST", "/accounts/login/", False),
    ],
)
def test_only_addresses_that_take_files_may_be_sent_much(method: str, path: str, expected: bool) -> None:
    assert is_upload(method, path) is expected


def test_versions_are_the_rest_apis_and_calls_the_gateways() -> None:
    assert not is_gateways("POST", UPLOAD)
    assert not is_gateways("POST", f"{UPLOAD}/1/live")
    assert is_gateways("POST", "/v1/models/acme/versions/predict")  # A model may be called so.
    assert is_gateways("POST", "/v1/models/acme/relu/anything")
    assert not is_gateways("POST", "/v1/models")


@pytest.fixture
def admitted(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Any) -> None:
    """Let everybody upload 3 MB."""
    settings.VAR_DIR = tmp_path
    settings.MAX_UPLOAD_MB = 3
    monkeypatch.setattr(django_bridge, "admit_upload", lambda *_, **__: True)


def test_an_upload_arrives_whole_and_leaves_no_file(admitted: None, tmp_path: Any) -> None:
    status, _, body = asyncio.run(ask(DjangoBridge(echo), scope_of(UPLOAD), PIECE, PIECE, b"end"))

    assert (status, body) == (200, PIECE + PIECE + b"end|")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("headers", [(), ((b"content-length", b"4194304"),)])
def test_an_upload_beyond_the_limit_is_413_and_never_reaches_django(admitted: None, tmp_path: Any, headers: Any) -> None:
    asked: list[Any] = []

    status, _, _ = asyncio.run(ask(DjangoBridge(lambda *seen: asked.append(seen) or []), scope_of(UPLOAD, *headers), *[PIECE] * 4))

    assert status == 413
    assert asked == []
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_stalls_is_408(admitted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_PIECE_S", 0.1)

    status, headers, _ = asyncio.run(ask(DjangoBridge(echo), scope_of(UPLOAD), b"..."))

    assert (status, headers[b"connection"]) == (408, b"close")


def test_a_full_disk_is_503_before_anything_is_read(admitted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**6}))

    status, _, body = asyncio.run(ask(DjangoBridge(echo), scope_of(UPLOAD), PIECE))

    assert status == 503
    assert b"storage_unavailable" in body


def test_the_fifth_upload_at_once_is_503(admitted: None) -> None:
    async def crowd() -> list[int]:
        bridge = DjangoBridge(echo)
        waiting = [asyncio.create_task(ask(bridge, scope_of(UPLOAD), b"...")) for _ in range(4)]
        await asyncio.sleep(0.3)
        status = (await ask(bridge, scope_of(UPLOAD), b"x"))[0]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return [status, (await ask(bridge, scope_of(UPLOAD), b"x"))[0]]

    assert asyncio.run(crowd()) == [503, 200]


def test_who_may_not_upload_is_read_like_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django_bridge, "admit_upload", lambda *_, **__: False)

    assert asyncio.run(ask(DjangoBridge(echo), scope_of("/publish/new/"), PIECE, PIECE, PIECE))[0] == 413
    assert asyncio.run(ask(DjangoBridge(echo), scope_of("/publish/new/"), b"small"))[2] == b"small|"


def test_without_a_key_the_body_is_not_read() -> None:
    async def send(*headers: tuple[bytes, bytes]) -> tuple[int, int]:
        read = 0

        async def receive() -> Message:
            nonlocal read
            read += 1
            return {"type": "http.request", "body": PIECE, "more_body": True}

        sent: list[Message] = []

        async def keep(message: Message) -> None:
            sent.append(message)

        await DjangoBridge(_unasked)(scope_of(UPLOAD, *headers), receive, keep)
        return sent[0]["status"], read

    assert asyncio.run(send()) == (401, 0)
    assert asyncio.run(send((b"authorization", b"Bearer nonsense"))) == (401, 0)


def _unasked(*_: Any) -> Iterable[bytes]:
    raise AssertionError


@pytest.mark.django_db
def test_keys_are_let_in_by_scope(live_key: str, organization: Any) -> None:
    from marketplace.credentials import mint_secret
    from marketplace.keys import KeySettings, issue_key
    from marketplace.models import ApiKey

    settings_ = KeySettings(kind=ApiKey.Kind.RESTRICTED, scopes=["models:read"])
    reader = issue_key(organization=organization, name="reader", settings=settings_, by="test")[1]

    assert admit_upload(UPLOAD, {"authorization": f"Bearer {live_key}"}, peer="127.0.0.1")
    with pytest.raises(ScopeMissing):
        admit_upload(UPLOAD, {"authorization": f"Bearer {reader}"}, peer="127.0.0.1")
    with pytest.raises(KeyMissing):
        admit_upload(UPLOAD, {}, peer="127.0.0.1")
    unknown = mint_secret(ApiKey.Kind.SECRET, livemode=True)
    with pytest.raises(KeyUnknown):
        admit_upload(UPLOAD, {"authorization": f"Bearer {unknown}"}, peer="127.0.0.1")


@pytest.mark.django_db
def test_people_are_let_in_by_their_session() -> None:
    store = import_module(site.SESSION_ENGINE).SessionStore()
    store[SESSION_KEY] = "1"
    store.save()

    def enters(cookies: str) -> bool:
        return admit_upload("/publish/new/", {"cookie": cookies}, peer="127.0.0.1")

    assert enters(f"a=b; {site.SESSION_COOKIE_NAME}={store.session_key}")
    assert not enters(f"{site.SESSION_COOKIE_NAME}=nonsense")
    assert not enters("")
    assert not enters('"; \x00=')
