"""The last steps of an answered call: make it durable with its bill, then render the reply."""

from dataclasses import dataclass

from billing.leases import Hold
from billing.metering import Meter, Receipt, Usage
from billing.money import Nanos, to_decimal_string
from inference.engine import Inferred
from marketplace.gateway import native
from marketplace.gateway.exchange import Exchange
from marketplace.gateway.idempotency import Claim
from marketplace.gateway.log import RequestRecorder
from marketplace.gateway.replies import Headers, Reply, answer, server_timing


@dataclass(frozen=True, slots=True)
class Answered:
    """A call that the model has answered and that nobody has been charged for yet."""

    exchange: Exchange
    call: native.Call
    inferred: Inferred
    hold: Hold
    claim: Claim | None


async def settle(answered: Answered, meter: Meter, recorder: RequestRecorder) -> Reply:
    """Charge the call and return its reply; when this returns, both are durable.

    Usage event, rollup, budgets, request log and the reply kept for a repeated request are
    one commit, shared with other calls that end at the same time.

    Raises:
        StorageUnavailable, ProcessFenced: nothing was written, so nothing is charged.
    """
    exchange = answered.exchange
    request, caller, version, terms = exchange.request, exchange.caller, exchange.version, exchange.terms
    assert caller and version and terms  # noqa: S101 (for the type checker: the line set them)
    usage = Usage(
        event_id=request.id,
        account_id=caller.account_id,
        terms=terms,
        sku=version.sku,
        unit=terms.unit,
        units=answered.call.units,
        livemode=caller.livemode,
        source=str(caller.key_id),
        occurred_at=exchange.occurred_at,
        replayable=answered.claim is not None,
    )
    charge = usage.charge_nanos()
    body = native.render(
        request_id=request.public_id,
        version=version,
        prediction=version.bundle.pipeline.render(answered.call.prepared, answered.inferred.outputs, answered.call.parameters),
        usage=native.usage_fields(terms, units=usage.units, charge_nanos=charge, livemode=caller.livemode),
    )
    reply = answer(body, _usage_headers(answered, charge))
    together = [recorder.answered(exchange, charge_nanos=charge, inferred=answered.inferred, body=body)]
    if answered.claim:
        together.append(answered.claim.completed(reply))
    receipt: Receipt = await meter.settle(answered.hold, usage, together=together)
    exchange.end_stage(b"settle")
    reply.headers += [server_timing(exchange.stages), *exchange.rate_headers()]
    reply.seq = receipt.seq
    return reply


def _usage_headers(answered: Answered, charge: Nanos) -> Headers:
    """Return what the reply says of its bill: the part that a repeated request gets again."""
    exchange, version, terms = answered.exchange, answered.exchange.version, answered.exchange.terms
    assert version and terms  # noqa: S101 (for the type checker: the line set them)
    return [
        (b"farebox-units", str(exchange.units).encode()),
        (b"farebox-cost", to_decimal_string(charge).encode()),
        (b"farebox-currency", terms.currency.encode()),
        (b"farebox-model-version", str(version.number).encode()),
        (b"farebox-model-digest", version.bundle.digest.encode()),
        (b"farebox-provider", answered.inferred.provider.encode()),
    ]
