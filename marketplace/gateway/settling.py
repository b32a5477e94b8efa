"""The last steps of an answered call: make it durable with its bill, then render the reply."""

from typing import Any, NamedTuple, Protocol

from billing.groups import Write
from billing.leases import Hold
from billing.metering import Meter, Receipt, Usage
from billing.money import Nanos, to_decimal_string
from billing.pricing import Terms
from inference.engine import Inferred
from marketplace.gateway.callers import Caller
from marketplace.gateway.exchange import Exchange
from marketplace.gateway.log import RequestRecorder
from marketplace.gateway.native import usage_fields
from marketplace.gateway.replies import Headers, Reply, server_timing
from marketplace.gateway.versions import ServedVersion
from marketplace.gateway.wire import Call, Wire


class ReplyKeeper(Protocol):
    """Keeps a reply in the commit that settles its call, so that it can be asked for again."""

    def completed(self, reply: Reply) -> Write:
        """Return the write that keeps it."""


class Admitted(NamedTuple):
    """A call that was let in: who calls what, in which format, and at which price."""

    wire: Wire[Any]
    exchange: Exchange
    caller: Caller
    version: ServedVersion
    terms: Terms  # As frozen at admission.
    claim: ReplyKeeper | None  # On its Idempotency-Key, if it has one.


class Answered(NamedTuple):
    """What the model made of it, not charged yet."""

    call: Call
    inferred: Inferred
    hold: Hold


async def settle(admitted: Admitted, answered: Answered, *, meter: Meter, recorder: RequestRecorder) -> Reply:
    """Charge an answered call and return its reply; when this returns, both are durable.

    Usage event, rollup, budgets, request log and the reply kept for a repeated request are
    one commit, shared with other calls that end at the same time.

    Raises:
        StorageUnavailable, ProcessFenced: nothing was written, so nothing is charged.
    """
    wire, exchange, caller, version, terms, claim = admitted
    call, inferred, hold = answered
    request = exchange.request
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
    )
    charge = usage.charge_nanos()
    used = usage_fields(terms, units=call.units, charge_nanos=charge, livemode=caller.livemode)
    reply = wire.render(call, inferred, request=request, version=version, usage=used)
    reply.headers += _usage_headers(admitted, inferred, charge)
    together: list[tuple[Any, Any]] = [
        recorder.answered(exchange, charge_nanos=charge, inferred=inferred, body=reply.body[: reply.text_bytes])
    ]
    if claim:
        together.append(claim.completed(reply))
    receipt: Receipt = await meter.settle(hold, usage, together=together)
    exchange.end_stage(b"settle")
    reply.headers.append(server_timing(exchange.stages))
    reply.seq, exchange.charge_nanos = receipt.seq, receipt.charge_nanos
    return reply


def _usage_headers(admitted: Admitted, inferred: Inferred, charge: Nanos) -> Headers:
    """Return what the reply says of its bill: the part that a repeated request gets again."""
    version, terms = admitted.version, admitted.terms
    return [
        (b"farebox-units", b"%d" % admitted.exchange.units),
        (b"farebox-cost", to_decimal_string(charge).encode()),
        (b"farebox-currency", terms.currency.encode()),
        (b"farebox-model-version", b"%d" % version.number),
        (b"farebox-model-digest", version.bundle.digest.encode()),
        (b"farebox-provider", inferred.provider.encode()),
    ]
