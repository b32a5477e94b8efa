"""The gateway's inner door: run accepted predictions through the same line, when nobody else needs the workers.

Celery decides what runs and when, and sends it here over loopback HTTP: the engine and the leases
are this process's (ADR 13). What a run leaves is one commit: usage event, budgets, log, and the result.
"""

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from django.conf import settings

from billing.ids import parse_public_id
from billing.metering import Meter
from inference.engine import Engine, Priority
from marketplace import predictions
from marketplace.errors import AlreadyEnded, ControlDataStale, KeyUnknown, NotFound, OutputTooLarge
from marketplace.gateway.exchange import Exchange
from marketplace.gateway.native import NATIVE
from marketplace.gateway.plans import terms_for
from marketplace.gateway.replies import Headers, Reply, answer, refusal, send_reply
from marketplace.gateway.request import Message, Receive, Request, Scope, Send
from marketplace.gateway.routing import Route
from marketplace.gateway.settling import Admitted
from marketplace.gateway.snapshot import Snapshot
from marketplace.gateway.telemetry import Telemetry
from marketplace.inner_door import PATH, door_token
from marketplace.problems import problem_fields, status_of

log = logging.getLogger(__name__)

# A request holds some rows of at most a call's size each; the runner stops at 4 MB.
_MAX_BODY_BYTES: Final = 32 * 1024 * 1024
# Kept of one prediction's answer.
_MAX_OUTPUT_BYTES: Final = 4 * 1024 * 1024
# How often it is looked again whether live calls wait, in seconds: a batch takes the workers some 10 ms.
_YIELD_S: Final = 0.005
# What a row may take once it has begun. Less than the runner waits for the whole request.
_ROW_TIMEOUT_MS: Final = 20_000


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer to be kept with its charge."""

    prediction_id: UUID
    finish: Callable[[], Reply]


class KeepResults:
    """Keeps answers in their predictions' rows; a result is None, or says that the prediction has ended."""

    def write(self, items: Sequence[_Kept]) -> list[AlreadyEnded | None]:
        """Write inside the transaction that settles the calls, so that neither is there without the other.

        In one order: on PostgreSQL two processes that run the same rows wait for each other.
        """
        results: dict[UUID, AlreadyEnded | None] = {}
        for item in sorted(items, key=lambda item: item.prediction_id):
            body = item.finish().body
            kept = predictions.keep_result(item.prediction_id, body=body, usage=orjson.loads(body)["usage"])
            results[item.prediction_id] = None if kept else AlreadyEnded(status="ended")
        return [results[item.prediction_id] for item in items]


KEEP = KeepResults()


@dataclass(slots=True)
class ResultClaim:
    """Stands where a live call's Idempotency-Key does: its reply is kept in the settling commit."""

    prediction_id: UUID

    def completed(self, finish: Callable[[], Reply]) -> tuple[KeepResults, _Kept]:
        """Return the write that keeps the reply.

        Raises:
            OutputTooLarge: nothing is charged for what cannot be kept.
        """
        size = len(finish().body)  # Its bill is not in it yet: some 1,500 bytes.
        if size > _MAX_OUTPUT_BYTES:
            message = f"The answer has {size} bytes; {_MAX_OUTPUT_BYTES} are kept."
            raise OutputTooLarge(message)
        return KEEP, _Kept(self.prediction_id, finish)


class Background:
    """Runs rows that a runner sends, a bounded number at once and none while live calls wait."""

    def __init__(
        self,
        *,
        snapshot: Snapshot,
        meter: Meter,
        engine: Engine,
        telemetry: Telemetry,
        run: Callable[[Admitted, bytes], Awaitable[Reply]],
        at_once: int,
    ) -> None:
        # Parses, holds, infers and settles an admitted call: the gateway's own line.
        self._snapshot = snapshot
        self._meter = meter
        self._engine = engine
        self._telemetry = telemetry
        self._run = run
        self._at_once = at_once
        self._running = 0
        self._room = asyncio.Semaphore(at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the rows of one request; answer how each ended. Strangers find nothing here."""
        request = Request(scope, receive)
        try:
            reply = await self._answer(request)
        except Exception as error:
            if status_of(error) == 500:
                log.exception("Rows could not be run")
            reply = refusal(error, request)
        await send_reply(reply, request, send)

    async def _answer(self, request: Request) -> Reply:
        given = (request.header(b"authorization") or "").encode()
        if not hmac.compare_digest(given, f"Bearer {door_token()}".encode()):
            raise NotFound
        asked = orjson.loads(await request.read_body(_MAX_BODY_BYTES))
        until = time.monotonic() + float(asked["within_s"])
        outcomes = await asyncio.gather(*[self._run_row(row, until) for row in asked["rows"]])
        return answer(orjson.dumps({"rows": outcomes}), [])

    async def _run_row(self, row: dict[str, Any], until: float) -> dict[str, Any]:
        """Run one row if there is room in time; return how it ended."""
        if not await self._wait_for_room(until):
            return {"id": row["id"], "outcome": "waiting"}
        self._running += 1
        try:
            await self._run_admitted(row)
        except AlreadyEnded:  # Cancelled meanwhile, or another run was first: nothing was charged now.
            return {"id": row["id"], "outcome": "ended"}
        except Exception as error:
            if status_of(error) == 500:
                log.exception("The prediction %s failed", row["id"])
            self._telemetry.refused(str(getattr(error, "code", "internal_error")))
            fields = problem_fields(error, request_id=row["id"])
            told = {name: value for name, value in fields.items() if name not in {"type", "request_id"}}
            return {"id": row["id"], "outcome": "refused", "error": told}
        finally:
            self._running -= 1
            self._room.release()
        return {"id": row["id"], "outcome": "ended"}

    async def _wait_for_room(self, until: float) -> bool:
        """Take a place once there is one and no live call waits for a worker; return whether that was in time."""
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._room.acquire()
        except TimeoutError:
            return False
        # Of the rows that wait in the engine, at most `_running` are ours: any more are live calls'.
        while self._engine.waiting_rows > self._running:
            if time.monotonic() >= until:
                self._room.release()
                return False
            await asyncio.sleep(_YIELD_S)
        return True

    async def _run_admitted(self, row: dict[str, Any]) -> None:
        """Let a row in as its key would be let in now, and run it at the price of when it was accepted.

        Rates and addresses were checked then. The key, the scope, the model and every budget are
        checked now.
        """
        prediction_id = parse_public_id("prd", row["id"])
        assert prediction_id is not None
        if not self._snapshot.is_fresh():
            raise ControlDataStale
        caller = await self._snapshot.callers.get(row["key"])
        if caller is None:
            raise KeyUnknown
        caller.check_live(now=time.time())
        caller.check_scope("predict")
        version = await self._snapshot.resolve(caller, row["model"], row["number"])
        self._meter.check_open()
        exchange = Exchange(_inner_request(prediction_id))
        exchange.route = Route(action=row["route"], model_path=row["model"], number=row["number"])
        exchange.caller, exchange.version = caller, version
        accepted_at = datetime.fromisoformat(row["accepted_at"])
        published = version.terms_at(accepted_at, caller.currency)
        exchange.terms = terms = terms_for(caller, version, moment=accepted_at, published=published)
        exchange.end_stage(b"auth")
        # Behind every live call that waits for a worker.
        admitted = Admitted(NATIVE, exchange, caller, version, terms, ResultClaim(prediction_id), Priority.BATCH)
        reply = await self._run(admitted, row["body"].encode())
        self._telemetry.ended(exchange, reply)
        if reply.seq is not None:  # It lies in its row, and can be asked for: that is delivered.
            self._meter.mark_delivered(reply.seq)


def _inner_request(prediction_id: UUID) -> Request:
    """Return the request that a row stands for; its id is the prediction's, so the usage event has it, too."""
    headers: Headers = [(b"x-timeout-ms", b"%d" % min(_ROW_TIMEOUT_MS, settings.MAX_TIMEOUT_MS))]
    request = Request({"method": "POST", "path": PATH, "headers": headers, "client": None}, _nothing_more)
    request.id = prediction_id
    return request


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}
