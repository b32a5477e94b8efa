"""Accept a call to be made later: checked, priced and affordable now, kept in a row, answered with 202."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from billing.ids import public_id
from billing.metering import Meter
from billing.money import Nanos
from billing.periods import render_moment
from marketplace import predictions
from marketplace.errors import RequestMalformed, StorageQuotaExceeded
from marketplace.gateway.exchange import Exchange
from marketplace.gateway.options import GatewaySettings, read_options
from marketplace.gateway.plans import quota_for
from marketplace.gateway.reader import Reader
from marketplace.gateway.replies import Headers, Reply
from marketplace.gateway.settling import Admitted, ReplyKeeper
from marketplace.gateway.strict_json import parse_json
from marketplace.webhooks.endpoints import find_endpoint_id

log = logging.getLogger(__name__)

# The runner is told at most this often, in seconds: one look finds all that was accepted meanwhile.
_NUDGE_INTERVAL_S: Final = 0.2


class _Kept(NamedTuple):
    """A prediction to be written, with the reply that its Idempotency-Key gets from then on."""

    accepted: predictions.Accepted
    claim: ReplyKeeper | None
    reply: Reply


class KeepPredictions:
    """Writes accepted predictions; a result is None, or why it was not kept."""

    def write(self, items: Sequence[_Kept]) -> list[StorageQuotaExceeded | None]:
        """Write inside the committer's transaction."""
        return [self._keep(item) for item in items]

    @staticmethod
    def _keep(item: _Kept) -> StorageQuotaExceeded | None:
        try:
            predictions.accept(item.accepted)
        except StorageQuotaExceeded as refusal:
            return refusal
        if item.claim:
            kind, completion = item.claim.completed(lambda: item.reply)
            kind.write([completion])
        return None


KEEP = KeepPredictions()


class Accepter:
    """Accepts calls for later."""

    def __init__(self, *, meter: Meter, reader: Reader, settings: GatewaySettings) -> None:
        self._meter = meter
        self._reader = reader
        self._settings = settings
        self._nudging: asyncio.Task[None] | None = None

    async def accept(self, admitted: Admitted, body: bytes) -> Reply:
        """Check a call as if it ran now, and keep it; return its 202.

        The most that it can cost is held for a moment, so that who cannot pay is told at once.
        Nothing stays held: it is held again when it runs.

        Raises:
            What a live call is refused with, WebhookInvalid, StorageQuotaExceeded: nothing was kept.
        """
        wire, exchange, caller, version, terms, claim, _ = admitted
        # Off the event loop: such calls are not in a hurry, and their bodies may be large.
        body, endpoint_text = await asyncio.to_thread(take_webhook, body)
        call = await asyncio.to_thread(wire.parse, exchange.request, body, version, terms, limits=self._settings)
        exchange.units = call.units
        options = read_options(exchange.request, self._settings, timeout_us=call.timeout_us)
        highest = Nanos(0)
        if caller.livemode:
            highest = await self._meter.highest_charge(caller.account_id, terms, call.units, moment=exchange.occurred_at)
        options.check_cost(highest)
        endpoint_id: UUID | None = None
        if endpoint_text is not None:
            endpoint_id = await self._reader.run(find_endpoint_id, caller.organization_id, endpoint_text)
        (await self._meter.hold(caller.budgets, highest, quota=quota_for(caller, terms), units=call.units)).release()
        accepted = predictions.Accepted(
            id=exchange.request.id,
            organization_id=caller.organization_id,
            key_id=caller.key_id,
            version_id=version.id,
            livemode=caller.livemode,
            body=body,
            endpoint_id=endpoint_id,
            created_at=exchange.occurred_at,
        )
        reply = _reply(admitted, accepted)
        await self._meter.submit(KEEP, _Kept(accepted, claim, reply))
        self._nudge()
        return reply

    def _nudge(self) -> None:
        if self._nudging is None or self._nudging.done():
            self._nudging = asyncio.create_task(self._nudge_soon())

    async def _nudge_soon(self) -> None:
        await asyncio.sleep(_NUDGE_INTERVAL_S)
        try:
            await self._reader.run(predictions.nudge)
        except Exception as error:  # noqa: BLE001 (the broker's; the sweep finds the rows all the same)
            log.warning("The runner could not be told of new predictions: %s", error)

    async def stop(self) -> None:
        """End a nudge that waits; the sweep does its work."""
        if self._nudging:
            self._nudging.cancel()
            await asyncio.gather(self._nudging, return_exceptions=True)


def is_for_later(exchange: Exchange) -> bool:
    """Whether a request wants its answer later: by its address, or by `Prefer: respond-async` (RFC 7240)."""
    action = exchange.route.action if exchange.route is not None else ""
    if action == "predictions":
        return True
    prefer = exchange.request.header(b"prefer")
    return (
        prefer is not None
        and action == "predict"
        and any(wish.split(";")[0].strip().lower() == "respond-async" for wish in prefer.split(","))
    )


def take_webhook(body: bytes) -> tuple[bytes, str | None]:
    """Return a body without its `webhook`, and that.

    Raises:
        RequestMalformed: it is no text, or the body is no JSON.
    """
    if b'"webhook"' not in body:
        return body, None
    fields: Any = parse_json(body)
    if not isinstance(fields, dict) or "webhook" not in fields:
        return body, None
    named = fields.pop("webhook")
    if named is not None and not isinstance(named, str):
        message = "webhook is the id or the address of one of your webhook endpoints."
        raise RequestMalformed(message, param="webhook")
    return orjson.dumps(fields), named


def _reply(admitted: Admitted, accepted: predictions.Accepted) -> Reply:
    """Return 202 with the prediction as `GET /v1/predictions/{id}` shows it now."""
    shown = public_id("prd", accepted.id)
    fields = {
        "object": "prediction",
        "id": shown,
        "status": "queued",
        "model": admitted.version.model_path,
        "version": admitted.version.number,
        "livemode": accepted.livemode,
        "batch": None,
        "prediction": None,
        "usage": None,
        "error": None,
        "created_at": render_moment(accepted.created_at),
        "started_at": None,
        "ended_at": None,
    }
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"location", f"/v1/predictions/{shown}".encode()),
    ]
    if admitted.exchange.request.has_header(b"prefer"):
        headers.append((b"preference-applied", b"respond-async"))
    return Reply(status=202, headers=headers, body=orjson.dumps(fields))
