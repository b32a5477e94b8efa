"""The inner door: closed to strangers, bounded, and behind every live call."""

import asyncio
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from billing.ids import public_id, uuid7
from inference.engine import Priority
from marketplace.errors import AlreadyEnded
from marketplace.gateway.background import Background
from marketplace.gateway.native import NATIVE
from marketplace.gateway.replies import Reply
from marketplace.inner_door import PATH, door_token


class Door:
    """The door over a gateway whose every part does as told."""

    def __init__(self, *, at_once: int = 4) -> None:
        self.queue_rows = 0  # Of live calls.
        self.running = self.most_running = self.ran = 0
        self.refusal: Exception | None = None
        self.admitted: list[Any] = []
        caller = SimpleNamespace(currency="usd", agreements=(), check_live=lambda **_: None, check_scope=lambda _: None)
        version = SimpleNamespace(terms_at=lambda *_: None)

        async def find(*_: object) -> Any:
            return caller

        async def resolve(*_: object) -> Any:
            return version

        self.background = Background(
            snapshot=SimpleNamespace(is_fresh=lambda: True, callers=SimpleNamespace(get=find), resolve=resolve),  # type: ignore[arg-type]
            meter=SimpleNamespace(check_open=lambda: None, mark_delivered=lambda _: None),  # type: ignore[arg-type]
            engine=self,  # type: ignore[arg-type]
            telemetry=SimpleNamespace(refused=lambda _: None, ended=lambda *_: None),  # type: ignore[arg-type]
            run=self.run,
            at_once=at_once,
        )

    @property
    def waiting_rows(self) -> int:
        """As the engine tells it."""
        return self.queue_rows

    async def run(self, admitted: Any, _body: bytes) -> Reply:
        self.admitted.append(admitted)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0.01)
        self.running -= 1
        self.ran += 1
        if self.refusal:
            raise self.refusal
        return Reply(status=200, headers=[], body=b"{}")

    async def ask(self, rows: int, *, token: str | None = None, within_s: float = 5) -> tuple[int, Any]:
        """Send rows through the door; return the status and what is said of them."""
        body = {"within_s": within_s, "rows": [row() for _ in range(rows)]}
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": orjson.dumps(body)}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"authorization", f"Bearer {token or door_token()}".encode())]
        await self.background({"type": "http", "method": "POST", "path": PATH, "headers": headers, "client": None}, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])


def row() -> dict[str, Any]:
    return {
        "id": public_id("prd", uuid7()), "key": "digest", "model": "a/b", "number": 1, "route": "batch",
        "accepted_at": datetime.now(UTC).isoformat(), "body": "{}",
    }  # fmt: skip


def outcomes(answer: Any) -> list[str]:
    return [one["outcome"] for one in answer["rows"]]


@pytest.mark.parametrize("token", ["wrong", " "])
def test_strangers_find_nothing_and_nothing_runs(token: str) -> None:
    door = Door()

    status, answer = asyncio.run(door.ask(1, token=token))

    assert (status, answer["code"], door.ran) == (404, "not_found", 0)


def test_no_more_rows_run_at_once_than_allowed() -> None:
    door = Door(at_once=3)

    _, answer = asyncio.run(door.ask(20))

    assert outcomes(answer) == ["ended"] * 20
    assert (door.most_running, door.ran) == (3, 20)


def test_no_row_is_begun_while_live_calls_wait() -> None:
    door = Door()
    door.queue_rows = 50

    _, answer = asyncio.run(door.ask(5, within_s=0.1))

    assert outcomes(answer) == ["waiting"] * 5
    assert door.ran == 0


def test_a_row_that_ended_meanwhile_is_ended_and_a_refusal_is_told_with_its_code() -> None:
    door = Door()
    door.refusal = AlreadyEnded(status="cancelled")
    _, ended = asyncio.run(door.ask(1))
    door.refusal = RuntimeError("secret detail")
    _, failed = asyncio.run(door.ask(1))

    assert outcomes(ended) == ["ended"]
    assert (outcomes(failed), failed["rows"][0]["error"]["code"]) == (["refused"], "internal_error")
    assert "secret" not in json.dumps(failed)


def test_rows_are_queued_behind_every_live_call() -> None:
    door = Door()

    asyncio.run(door.ask(2))

    assert [admitted.priority for admitted in door.admitted] == [Priority.BATCH, Priority.BATCH]


@pytest.mark.parametrize("prepared", [SimpleNamespace(rows=[]), None])
def test_a_call_s_priority_reaches_the_engine(prepared: Any) -> None:
    asked: list[Any] = []

    async def infer(*_: object, **options: Any) -> Any:
        asked.append(options["priority"])

    engine: Any = SimpleNamespace(infer=infer, infer_tensors=infer)
    version: Any = SimpleNamespace(bundle=None, allow_nonfinite=False)
    call: Any = SimpleNamespace(prepared=prepared, tensors={})
    asyncio.run(NATIVE.infer(engine, call, version, tenant="t", deadline=1.0, priority=Priority.BATCH))  # type: ignore[arg-type]  # It is awaitable.

    assert asked == [Priority.BATCH]
