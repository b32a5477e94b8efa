"""The native wire format: a JSON body to checked input, and outputs to JSON bytes."""

from collections.abc import Awaitable, Mapping
from typing import Final, NamedTuple

import orjson

from billing.money import Nanos, to_decimal_string
from billing.pricing import Terms
from inference.engine import Engine, Inferred
from inference.errors import InvalidInput
from inference.pipelines.pipeline import Prepared
from marketplace.errors import RequestMalformed
from marketplace.gateway.options import GatewaySettings
from marketplace.gateway.replies import Reply, answer, refusal
from marketplace.gateway.request import Request
from marketplace.gateway.strict_json import parse_json
from marketplace.gateway.versions import ServedVersion

_FIELDS: Final = frozenset({"input_data", "parameters"})


class Call(NamedTuple):
    """One request, checked and counted."""

    prepared: Prepared
    parameters: Mapping[str, object]
    units: int
    timeout_us: int | None = None  # X-Timeout-Ms says it here.


class NativeWire:
    """`{"input_data": ...}` to `{"prediction": ...}`."""

    def parse(self, request: Request, body: bytes, version: ServedVersion, terms: Terms, *, limits: GatewaySettings) -> Call:  # noqa: ARG002 (headers say nothing of a native body)
        """Read and check a predict body; see `parse`."""
        return parse(body, version, terms, limits=limits)

    def infer(self, engine: Engine, call: Call, version: ServedVersion, *, tenant: str, deadline: float) -> Awaitable[Inferred]:
        """Run the call's rows, batched with other calls'."""
        return engine.infer(version.bundle, call.prepared.rows, tenant=tenant, deadline=deadline)

    def render(self, call: Call, inferred: Inferred, *, request: Request, version: ServedVersion, usage: Mapping[str, object]) -> Reply:
        """Return the reply with its `prediction` and `usage`."""
        pipeline = version.bundle.pipeline
        assert pipeline is not None  # `parse` has refused the call otherwise.
        prediction = pipeline.render(call.prepared, inferred.outputs, call.parameters)
        return answer(render(request_id=request.public_id, version=version, prediction=prediction, usage=usage), [])

    def finish(self, reply: Reply, request: Request) -> Reply:  # noqa: ARG002 (native replies are small and sent as they are)
        """Return the reply as it is."""
        return reply

    def refuse(self, error: Exception, request: Request) -> Reply:
        """Return the error as problem+json."""
        return refusal(error, request)


def parse(body: bytes, version: ServedVersion, terms: Terms, *, limits: GatewaySettings) -> Call:
    """Read and check a predict body against the version's pipeline, and count its units.

    Raises:
        RequestMalformed: it is not JSON of the right form (400).
        InvalidInput: the pipeline does not take this input or these parameters (422).
    """
    fields = parse_json(body)
    if not isinstance(fields, dict):
        message = 'The body must be a JSON object: {"input_data": ...}.'
        raise RequestMalformed(message)
    if unknown := fields.keys() - _FIELDS:
        name = min(unknown)
        message = f"Unknown field {name[:40]!r}; this address takes input_data and parameters."
        raise RequestMalformed(message, param=name[:40])
    if "input_data" not in fields:
        message = "The field input_data is missing."
        raise RequestMalformed(message, param="input_data")
    parameters = fields.get("parameters", {})
    if not isinstance(parameters, dict):
        message = "parameters must be an object."
        raise RequestMalformed(message, param="parameters")
    pipeline = version.bundle.pipeline
    if pipeline is None:
        raise InvalidInput(param="input_data", detail="This version takes tensors by name, which this address does not yet.")
    pipeline.validate_parameters(parameters)
    prepared = pipeline.prepare(fields["input_data"], max_rows=limits.max_rows, max_characters=limits.max_characters)
    return Call(prepared=prepared, parameters=parameters, units=count_units(prepared, terms))


def count_units(prepared: Prepared, terms: Terms) -> int:
    """Return what a call uses, in the price's unit: known before it runs."""
    if terms.unit == "token":
        return prepared.tokens
    return len(prepared.rows) if terms.unit == "row" else 1


def render(
    *,
    request_id: str,
    version: ServedVersion,
    prediction: object,
    usage: Mapping[str, object],
) -> bytes:
    """Return the body of an answered call."""
    return orjson.dumps(
        {
            "id": request_id,
            "model": version.model_path,
            "version": version.number,
            "prediction": prediction,
            "usage": usage,
        }
    )


def render_estimate(*, version: ServedVersion, usage: Mapping[str, object]) -> bytes:
    """Return the body of an estimate."""
    return orjson.dumps({"model": version.model_path, "version": version.number, "usage": usage})


def usage_fields(terms: Terms, *, units: int, charge_nanos: int, livemode: bool) -> dict[str, object]:
    """Return the `usage` object of a reply: unit, units, exact cost as a decimal string, currency."""
    return {
        "unit": terms.unit,
        "units": units,
        "cost": to_decimal_string(Nanos(charge_nanos)),
        "currency": terms.currency,
        "livemode": livemode,
    }


NATIVE: Final = NativeWire()
