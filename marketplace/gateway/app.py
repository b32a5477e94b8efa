"""The metered call, as one straight line: authenticate, admit, resolve, read, parse, hold, infer, settle, reply."""

import asyncio
import logging
from typing import Final

from billing.metering import Meter
from billing.money import Nanos
from billing.pricing import highest_charge
from inference.engine import Engine
from marketplace.errors import BodyTooSlow, NotFound
from marketplace.gateway import native
from marketplace.gateway.callers import Caller
from marketplace.gateway.exchange import Exchange
from marketplace.gateway.idempotency import Claims
from marketplace.gateway.limits import ConcurrencyLimiter, RateLimiter
from marketplace.gateway.log import RequestRecorder
from marketplace.gateway.options import GatewaySettings, read_options
from marketplace.gateway.patience import Patience
from marketplace.gateway.replies import Reply, answer, refusal, send_reply
from marketplace.gateway.request import Receive, Request, Scope, Send
from marketplace.gateway.routing import Route, find_route
from marketplace.gateway.settling import Admitted, Answered, settle
from marketplace.gateway.snapshot import Snapshot
from marketplace.problems import status_of

log = logging.getLogger(__name__)

# A reply is small: who has not taken it by then is not reading, and holds up what was delivered after it.
_SEND_TIMEOUT_S: Final = 10.0


class Gateway:
    """Answers the model calls. Everything it needs is handed in, so that tests can hand in less."""

    def __init__(
        self,
        *,
        snapshot: Snapshot,
        meter: Meter,
        engine: Engine,
        claims: Claims,
        recorder: RequestRecorder,
        settings: GatewaySettings,
        patience: Patience,
    ) -> None:
        self._snapshot = snapshot
        self._meter = meter
        self._engine = engine
        self._claims = claims
        self._recorder = recorder
        self._settings = settings
        self._patience = patience
        self._key_rates = RateLimiter(policy="key")
        self._organization_rates = RateLimiter(policy="organization")
        self._in_flight = ConcurrencyLimiter(limit=settings.organization_concurrency)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request. Whatever goes wrong inside becomes a problem+json."""
        request = Request(scope, receive)
        exchange = Exchange(request)
        try:
            reply = await self._answer(exchange)
        except Exception as error:  # noqa: BLE001 (the door: no stack trace may leave the house)
            reply = self._refuse(error, exchange)
        self._patience.begin(_SEND_TIMEOUT_S)
        try:
            await send_reply(reply, request, send)
        except asyncio.CancelledError:
            if not self._patience.end():
                raise
            log.info("The caller of %s does not read its reply.", request.public_id)  # The server hangs up.
        finally:
            self._patience.end()
            # Also when the client is gone: the mark below which all is delivered must not stall.
            if reply.seq is not None:
                self._meter.mark_delivered(reply.seq)

    async def _answer(self, exchange: Exchange) -> Reply:
        route = exchange.route = find_route(exchange.request.path)
        if route is None:
            raise NotFound
        if route.action == "estimate":
            return await self._estimate(exchange, route)
        return await self._predict(exchange, route)

    async def _predict(self, exchange: Exchange, route: Route) -> Reply:
        """Authenticate, admit, resolve, read; then run once. Only an answered call is charged."""
        request = exchange.request
        caller = await self._authenticate(exchange)
        self._admit(caller, exchange)
        try:
            version = exchange.version = await self._snapshot.resolve(caller, route.model_path, route.number)
            exchange.end_stage(b"auth")
            self._meter.check_open()  # A call that cannot be recorded is refused before it runs.
            body = await self._read_body(exchange)
            if exchange.has_waited():  # For its body: the key may be revoked, or its cap be lower.
                caller = await self._authenticate(exchange)
            terms = exchange.terms = version.terms_now()  # Frozen here, whatever is set while it runs.
            reply = await self._claims.run_once(
                caller, request, body, lambda claim: self._run(Admitted(exchange, caller, version, terms, claim), body)
            )
        finally:
            self._in_flight.leave(caller.tenant)
        reply.headers += exchange.rate_headers()
        return reply

    async def _run(self, admitted: Admitted, body: bytes) -> Reply:
        """Parse, hold, infer, settle. What was held and not charged goes back, whatever happens."""
        exchange, caller, version, terms = admitted.exchange, admitted.caller, admitted.version, admitted.terms
        options = read_options(exchange.request, self._settings)
        call = native.parse(body, version, terms, limits=self._settings)
        exchange.units = call.units
        highest = highest_charge(terms, call.units) if caller.livemode else Nanos(0)
        options.check_cost(highest)
        hold = await self._meter.hold(caller.budgets, highest)
        try:
            exchange.end_stage(b"limit")
            inferred = await self._engine.infer(version.bundle, call.prepared.rows, tenant=caller.tenant, deadline=options.deadline)
            exchange.add_stages((b"queue", inferred.queue_us / 1e6), (b"infer", inferred.infer_us / 1e6))
            return await settle(admitted, Answered(call, inferred, hold), meter=self._meter, recorder=self._recorder)
        finally:
            hold.release()  # What was settled is no longer held.

    async def _estimate(self, exchange: Exchange, route: Route) -> Reply:
        """Tell a body's units and highest cost. Nothing is run, held or charged."""
        caller = await self._authenticate(exchange)
        self._admit(caller, exchange)
        try:
            version = exchange.version = await self._snapshot.resolve(caller, route.model_path, route.number)
            terms = exchange.terms = version.terms_now()
            call = native.parse(await self._read_body(exchange), version, terms, limits=self._settings)
        finally:
            self._in_flight.leave(caller.tenant)
        highest = highest_charge(terms, call.units) if caller.livemode else Nanos(0)
        usage = native.usage_fields(terms, units=call.units, charge_nanos=highest, livemode=caller.livemode)
        return answer(native.render_estimate(version=version, usage=usage), exchange.rate_headers())

    async def _authenticate(self, exchange: Exchange) -> Caller:
        """Return who calls, as of now, if they may call models at all."""
        caller = exchange.caller = await self._snapshot.authenticate(exchange.request)
        caller.check_scope("predict")
        return caller

    async def _read_body(self, exchange: Exchange) -> bytes:
        """Read the request's body, within the site's size and time.

        Raises:
            BodyTooSlow: it did not come in time.
        """
        self._patience.begin(self._settings.body_timeout_s)
        try:
            return await exchange.request.read_body(self._settings.max_body_bytes)
        except asyncio.CancelledError:
            if not self._patience.end():
                raise
            message = f"The body did not come within {self._settings.body_timeout_s:g} s."
            raise BodyTooSlow(message) from None
        finally:
            self._patience.end()

    def _admit(self, caller: Caller, exchange: Exchange) -> None:
        """Count the call against the rates, and against the calls in flight until `_in_flight.leave`."""
        key = self._key_rates.admit(caller.digest, limit=caller.key_rate)
        exchange.rates = key, self._organization_rates.admit(caller.tenant, limit=caller.organization_rate)
        self._in_flight.enter(caller.tenant)

    def _refuse(self, error: Exception, exchange: Exchange) -> Reply:
        """Turn an error into its problem, and put it into the caller's request log."""
        status = status_of(error)
        if status == 500:
            log.error("Request %s failed", exchange.request.public_id, exc_info=error)
        reply = refusal(error, exchange.request)
        reply.headers.extend(exchange.rate_headers())
        self._recorder.refused(exchange, status=status, code=str(getattr(error, "code", "internal_error")))
        return reply
