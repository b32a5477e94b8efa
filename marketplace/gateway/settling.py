"""The last steps of an answered call: make it durable with its bill, then render the reply."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from billing.groups import Write
from billing.leases import Hold
from billing.metering import Meter, Receipt, Usage
from billing.pricing import Terms
from billing.settling import Bill
from inference.engine import Inferred, Priority
from marketplace.gateway.cache import HIT
from marketplace.gateway.callers import Caller
from marketplace.gateway.exchange import Exchange
from marketplace.gateway.log import RequestRecorder
from marketplace.gateway.native import usage_fields
from marketplace.gateway.replies import Headers, Reply, server_timing
from marketplace.gateway.versions import ServedVersion
from marketplace.gateway.wire import Call, Wire


class ReplyKeeper(Protocol):
    """Keeps a reply in the commit that settles its call, so that it can be asked for again."""

    def completed(self, finish: Callable[[], Reply]) -> Write:
        """Return the write that keeps it. It calls `finish` when it is written, after the settlement: only then the bill is known."""


class Admitted(NamedTuple):
    """A call that was let in: who calls what, in which format, and at which price."""

    wire: Wire[Any]
    exchange: Exchange
    caller: Caller
    version: ServedVersion
    terms: Terms  # As frozen at admission.
    claim: ReplyKeeper | None  # On its Idempotency-Key, if it has one.
    priority: Priority = Priority.LIVE


class Answered(NamedTuple):
    """What the model made of it, not charged yet."""

    call: Call
    inferred: Inferred
    hold: Hold
    input_hash: bytes  # SHA-256 of the body.


async def settle(admitted: Admitted, answered: Answered, *, meter: Meter, recorder: RequestRecorder) -> Reply:
    """Charge an answered call and return its reply; when this returns, both are durable.

    Usage event, rollup, budgets, request log and the reply kept for a repeated request are
    one commit, shared with other calls that end at the same time.

    Raises:
        StorageUnavailable, ProcessFenced: nothing was written, so nothing is charged.
    """
    wire, exchange, caller, version, terms, claim, _ = admitted
    call, inferred, hold, input_hash = answered
    request, bill = exchange.request, Bill()
    usage = Usage(
        event_id=request.id,
        account_id=caller.account_id,
        terms=terms,
        sku=version.sku,
        unit=terms.unit,
        units=call.units,
        livemode=caller.livemode,
        source=caller.key_text,
        occurred_at=exchange.occurred_at,
        replayable=claim is not None,
        is_cached=exchange.cache == HIT,
        bill=bill,
        input_hash=input_hash,
        model_digest=version.bundle.digest,
        call=request.public_id,
    )
    draft = wire.render(call, inferred, request=request, version=version)

    def finish() -> Reply:
        """Return the reply with its bill. Also called by the commit, for what is kept of it there."""
        return _billed(admitted, inferred, draft, bill)

    together: list[tuple[Any, Any]] = [recorder.answered(exchange, bill=bill, inferred=inferred, finish=finish)]
    if claim:
        together.append(claim.completed(finish))
    receipt: Receipt = await meter.settle(hold, usage, together=together)
    reply = finish()
    exchange.end_stage(b"settle")
    reply.headers.append(server_timing(exchange.stages))
    reply.seq, exchange.charge_nanos = receipt.seq, receipt.charge_nanos
    return reply


def _billed(admitted: Admitted, inferred: Inferred, draft: Reply, bill: Bill) -> Reply:
    """Return a copy of the draft that says what the call came to: the part that a repeated request gets again."""
    units, version, terms = admitted.exchange.units, admitted.version, admitted.terms
    usage = usage_fields(terms, units=units, charge_nanos=bill.charge_nanos, livemode=admitted.caller.livemode)
    reply = admitted.wire.bill(draft, usage, bill.receipt())
    reply.headers += [
        (b"farebox-units", b"%d" % units),
        (b"farebox-cost", str(usage["cost"]).encode()),
        *_serving_headers(terms.currency, version.number, version.bundle.digest, inferred.provider),
    ]
    if admitted.exchange.cache is not None:
        reply.headers.append((b"farebox-cache", admitted.exchange.cache))
    return reply


@lru_cache(maxsize=1024)
def _serving_headers(currency: str, number: int, digest: str, provider: str) -> Headers:
    """Return the headers that all answers of a version have in common."""
    return [
        (b"farebox-currency", currency.encode()),
        (b"farebox-model-version", b"%d" % number),
        (b"farebox-model-digest", digest.encode()),
        (b"farebox-provider", provider.encode()),
    ]
