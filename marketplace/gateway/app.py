"""The metered call, as one straight line: authenticate, admit, resolve, read, parse, hold, infer, settle, reply."""

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from typing import Any, Final

from billing.metering import Meter
from billing.money import Nanos
from billing.pricing import Terms, charge
from inference.engine import Engine, Inferred
from marketplace.errors import BodyTooSlow, CallerLeft, NotFound
from marketplace.gateway.cache import HIT, MISS, CacheKey, ResponseCache
from marketplace.gateway.callers import Caller
from marketplace.gateway.exchange import Exchange
from marketplace.gateway.explaining import EXPLAIN
from marketplace.gateway.idempotency import Claims
from marketplace.gateway.later import Accepter, is_for_later
from marketplace.gateway.limits import ConcurrencyLimiter, RateLimiter
from marketplace.gateway.log import RequestRecorder
from marketplace.gateway.native import NATIVE, render_estimate, usage_fields
from marketplace.gateway.oip.door import HEALTH_ACTIONS, Door
from marketplace.gateway.oip.format import OIP
from marketplace.gateway.oip.statistics import CallStatistics
from marketplace.gateway.options import GatewaySettings, read_options
from marketplace.gateway.patience import Patience
from marketplace.gateway.plans import find_allowance, quota_for, terms_for
from marketplace.gateway.replies import Reply, answer, send_reply, write_reply
from marketplace.gateway.request import Receive, Request, Scope, Send, raise_if_left
from marketplace.gateway.routing import Route, find_route, is_v2
from marketplace.gateway.settling import Admitted, Answered, settle
from marketplace.gateway.snapshot import Snapshot
from marketplace.gateway.telemetry import Telemetry
from marketplace.gateway.versions import ServedVersion
from marketplace.gateway.wire import Call, Wire
from marketplace.logs import begin_request
from marketplace.problems import status_of

log = logging.getLogger(__name__)

# A reply is small: who has not taken it by then is not reading, and holds up what was delivered after it.
_SEND_TIMEOUT_S: Final = 10.0
# A larger body is read in a thread: 4 MB of numbers take 80 ms, in which others would wait.
_LARGE_BODY_BYTES: Final = 256 * 1024
# What runs a model, and in which format.
RUNS: Final[Mapping[str, Wire[Any]]] = {"predict": NATIVE, "predictions": NATIVE, "infer": OIP, "explain": EXPLAIN}


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
        telemetry: Telemetry,
        statistics: CallStatistics,
        door: Door,
        cache: ResponseCache,
        accepter: Accepter,
    ) -> None:
        self._snapshot = snapshot
        self._meter = meter
        self._engine = engine
        self._claims = claims
        self._recorder = recorder
        self._settings = settings
        self._patience = patience
        self._telemetry = telemetry
        self._statistics = statistics
        self._door = door
        self._cache = cache
        self._accepter = accepter
        self._key_rates = RateLimiter(policy="key")
        self._organization_rates = RateLimiter(policy="organization")
        self._plan_rates = RateLimiter(policy="plan")
        self._in_flight = ConcurrencyLimiter(limit=settings.organization_concurrency)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request. Whatever goes wrong inside becomes a refusal in the caller's format."""
        request = Request(scope, receive)
        exchange = Exchange(request)
        begin_request(request)  # Whatever is logged for it names it.
        try:
            reply = await self._answer(exchange)
        except Exception as error:  # noqa: BLE001 (the door: no stack trace may leave the house)
            reply = self._refuse(error, exchange)
        except asyncio.CancelledError:
            self._telemetry.ended(exchange, None)
            raise
        try:
            if not write_reply(reply, request):
                await self._send(reply, request, send)
        finally:
            # Also when the client is gone: the mark below which all is delivered must not stall.
            if reply.seq is not None:
                self._meter.mark_delivered(reply.seq)
            self._telemetry.ended(exchange, reply)  # Who waits for the reply need not wait for this.

    async def _send(self, reply: Reply, request: Request, send: Send) -> None:
        """Send a reply to a client that may be slow to take it."""
        self._patience.begin(_SEND_TIMEOUT_S)
        try:
            await send_reply(reply, request, send)
        except asyncio.CancelledError:
            if not self._patience.end():
                raise
            log.info("The caller does not read its reply.")  # The server hangs up.
        finally:
            self._patience.end()

    async def _answer(self, exchange: Exchange) -> Reply:
        """Let the caller in, then do what the address is for."""
        request = exchange.request
        route = exchange.route = find_route(request.method, request.path)
        if route is None:
            raise NotFound
        if route.action in HEALTH_ACTIONS:
            return self._door.tell_health(route)
        caller = await self._authenticate(exchange)
        self._admit(caller, exchange)
        try:
            if route.action in RUNS:
                reply = await self._predict(exchange, route, caller)
            elif route.action == "estimate":
                reply = await self._estimate(exchange, route, caller)
            else:
                reply = await self._door.answer(route, caller)
        finally:
            self._in_flight.leave(caller.tenant)
        reply.headers += exchange.rate_headers()
        return reply

    async def _predict(self, exchange: Exchange, route: Route, caller: Caller) -> Reply:
        """Resolve, read, run once, now or later. Only an answered call is charged."""
        request, wire = exchange.request, RUNS[route.action]
        version = exchange.version = await self._snapshot.resolve(caller, route.model_path, route.number)
        exchange.end_stage(b"auth")
        self._meter.check_open()  # A call that cannot be recorded is refused before it runs.
        body = await self._read_body(exchange, version)
        if exchange.has_waited():  # For its body: the key may be revoked, or its cap be lower.
            caller = await self._authenticate(exchange)
        terms = exchange.terms = self._terms(exchange, caller, version)  # Frozen here, whatever is set while it runs.
        run = self._accepter.accept if is_for_later(exchange) else self.run
        reply = await self._claims.run_once(
            caller, request, body, lambda claim: run(Admitted(wire, exchange, caller, version, terms, claim), body)
        )
        return wire.finish(reply, request)

    async def run(self, admitted: Admitted, body: bytes) -> Reply:
        """Parse, hold, infer, settle. What was held and not charged goes back, whatever happens."""
        wire, exchange, caller, version, terms, *_ = admitted
        call: Call
        if len(body) > _LARGE_BODY_BYTES or exchange.request.has_header(b"content-encoding"):  # Which may be large, inflated.
            call = await asyncio.to_thread(wire.parse, exchange.request, body, version, terms, limits=self._settings)
        else:
            call = wire.parse(exchange.request, body, version, terms, limits=self._settings)
        exchange.units = call.units
        options = read_options(exchange.request, self._settings, timeout_us=call.timeout_us)
        key, inferred = self._find_kept(admitted, call)
        highest = await self._highest_charge(exchange, caller, terms, call.units)
        options.check_cost(highest)
        hold = await self._meter.hold(caller.budgets, highest, quota=quota_for(caller, terms), units=call.units)
        try:
            exchange.end_stage(b"limit")
            if inferred is None:
                inferred = await self._infer(admitted, call, deadline=options.deadline)
            exchange.add_stages((b"queue", inferred.queue_us / 1e6), (b"infer", inferred.infer_us / 1e6))
            answered = Answered(call, inferred, hold, hashlib.sha256(body).digest())
            reply = await settle(admitted, answered, meter=self._meter, recorder=self._recorder)
            if key is not None and exchange.cache == MISS:  # Once it is paid: what it makes cheaper later was bought.
                self._cache.keep(key, inferred)
            self._statistics.answered(exchange, rows=call.rows, batch_rows=inferred.batch_rows)
            return reply
        finally:
            hold.release()  # What was settled is no longer held.

    async def _infer(self, admitted: Admitted, call: Call, *, deadline: float) -> Inferred:
        """Run the call; if its caller hangs up meanwhile, it is dropped and costs nothing."""
        connection = admitted.exchange.request.connection
        if connection is not None:
            connection.waiting = asyncio.current_task()
            if connection.is_lost:
                raise CallerLeft
        try:
            tenant, priority = admitted.caller.tenant, admitted.priority
            return await admitted.wire.infer(self._engine, call, admitted.version, tenant=tenant, deadline=deadline, priority=priority)
        except asyncio.CancelledError:
            raise_if_left(connection)
            raise
        finally:  # What settles is not cancelled: it is charged, and refunded if it cannot be delivered.
            if connection is not None:
                connection.waiting = None

    def _find_kept(self, admitted: Admitted, call: Call) -> tuple[CacheKey | None, Inferred | None]:
        """Return the name that the call's answer is kept under, and the answer if it is there; nothing for who keeps none."""
        caller = admitted.caller
        if not caller.keeps_answers:
            return None, None
        key = CacheKey(caller.tenant, caller.livemode, admitted.version.bundle.key, admitted.wire.identify(call))
        found = self._cache.find(key)
        admitted.exchange.cache = MISS if found is None else HIT
        return key, found

    async def _estimate(self, exchange: Exchange, route: Route, caller: Caller) -> Reply:
        """Tell a body's units and highest cost. Nothing is run, held or charged."""
        version = exchange.version = await self._snapshot.resolve(caller, route.model_path, route.number)
        terms = exchange.terms = terms_for(caller, version, moment=exchange.occurred_at, published=version.terms_now(caller.currency))
        body = await self._read_body(exchange, version)
        call = await asyncio.to_thread(NATIVE.parse, exchange.request, body, version, terms, limits=self._settings)
        highest = await self._highest_charge(exchange, caller, terms, call.units)
        usage = usage_fields(terms, units=call.units, charge_nanos=highest, livemode=caller.livemode)
        return answer(render_estimate(version=version, usage=usage), [])

    async def _highest_charge(self, exchange: Exchange, caller: Caller, terms: Terms, units: int) -> Nanos:
        """Return the most that the call can cost, as far as its month is known to be."""
        if not caller.livemode:
            return Nanos(0)
        if exchange.cache == HIT and terms.shape is not None and terms.shape.cached_unit_nanos is not None:
            return charge(terms, units, is_cached=True)
        return await self._meter.highest_charge(caller.account_id, terms, units, moment=exchange.occurred_at)

    def _terms(self, exchange: Exchange, caller: Caller, version: ServedVersion) -> Terms:
        """Return the price of a call, and count it against the rate of the plan that it comes from.

        Raises:
            RateLimited: the plan's rate is used up.
        """
        published = version.terms_now(caller.currency)
        terms = terms_for(caller, version, moment=exchange.occurred_at, published=published)
        if terms is not published:
            allowance = find_allowance(caller, terms)
            if allowance is not None and allowance.rate_per_minute is not None:
                self._plan_rates.admit((caller.tenant, terms.counted_as), limit=allowance.rate_per_minute)
        return terms

    async def _authenticate(self, exchange: Exchange) -> Caller:
        """Return who calls, as of now, if they may call models at all."""
        caller = exchange.caller = await self._snapshot.authenticate(exchange.request)
        caller.check_scope("predict")
        return caller

    async def _read_body(self, exchange: Exchange, version: ServedVersion) -> bytes:
        """Read the request's body, within the version's size and the site's time.

        Raises:
            BodyTooSlow: it did not come in time.
        """
        body = exchange.request.take_body(version.max_body_bytes)
        if body is not None:
            return body
        self._patience.begin(self._settings.body_timeout_s)
        try:
            return await exchange.request.read_body(version.max_body_bytes)
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
        """Turn an error into a reply in the caller's format, and put it into the caller's request log."""
        status = status_of(error)
        code = str(getattr(error, "code", "internal_error"))
        self._telemetry.refused(code)
        if status == 500:
            log.error("A call failed.", exc_info=error)
        self._statistics.failed(exchange)
        wire: Wire[Any] = OIP if is_v2(exchange.request.path) else NATIVE
        reply = wire.refuse(error, exchange.request)
        reply.headers.extend(exchange.rate_headers())
        self._recorder.refused(exchange, status=status, code=code)
        return reply
