"""The native wire format: a JSON body to checked input, and outputs to JSON bytes."""

from collections.abc import Awaitable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from billing.money import Nanos, to_decimal_string
from billing.pricing import Terms
from inference.engine import Engine, Inferred, Priority
from inference.errors import InvalidInput
from inference.nested import parse_tensor, render_tensor
from inference.pipelines.pipeline import Prepared
from inference.signature import Signature
from marketplace.errors import RequestMalformed
from marketplace.gateway.cache import hash_rows, hash_tensors
from marketplace.gateway.options import GatewaySettings
from marketplace.gateway.replies import Reply, answer, refusal
from marketplace.gateway.request import Request
from marketplace.gateway.strict_json import parse_json
from marketplace.gateway.units import count_units
from marketplace.gateway.versions import ServedVersion

_FIELDS: Final = frozenset({"input_data", "parameters"})


class Call(NamedTuple):
    """One request, checked and counted: what a pipeline made of it, or named tensors."""

    prepared: Prepared | None
    tensors: Mapping[str, npt.NDArray[Any]]
    parameters: Mapping[str, object]
    rows: int
    units: int
    timeout_us: int | None = None  # X-Timeout-Ms says it here.


class NativeWire:
    """`{"input_data": ...}` to `{"prediction": ...}`."""

    def parse(self, request: Request, body: bytes, version: ServedVersion, terms: Terms, *, limits: GatewaySettings) -> Call:  # noqa: ARG002 (headers say nothing of a native body)
        """Read and check a predict body; see `parse`."""
        return parse(body, version, terms, limits=limits)

    def infer(
        self, engine: Engine, call: Call, version: ServedVersion, *, tenant: str, deadline: float, priority: Priority
    ) -> Awaitable[Inferred]:
        """Run the call, batched with other calls'."""
        if call.prepared is not None:
            return engine.infer(version.bundle, call.prepared.rows, tenant=tenant, deadline=deadline, priority=priority)
        allow = version.allow_nonfinite
        return engine.infer_tensors(
            version.bundle, call.tensors, tenant=tenant, deadline=deadline, allow_nonfinite=allow, priority=priority
        )

    def identify(self, call: Call) -> bytes:
        """Return a hash of what is sent to the model."""
        return hash_rows(call.prepared.rows) if call.prepared is not None else hash_tensors(call.tensors, ())

    def render(self, call: Call, inferred: Inferred, *, request: Request, version: ServedVersion) -> Reply:
        """Return the reply with its `prediction`."""
        pipeline = version.bundle.pipeline
        prediction: object
        if pipeline is not None and call.prepared is not None:
            prediction = pipeline.render(call.prepared, inferred.outputs, call.parameters)
        else:
            prediction = render_tensors(inferred.outputs, version.bundle.signature)
        return answer(render(request_id=request.public_id, version=version, prediction=prediction), [])

    def bill(self, draft: Reply, usage: Mapping[str, object], receipt: str) -> Reply:
        """Return the reply with its `usage` and `receipt`, put behind the prediction without rendering that again."""
        body = b'%b,"usage":%b,"receipt":"%b"}' % (draft.body[:-1], orjson.dumps(usage), receipt.encode())
        return Reply(status=draft.status, headers=list(draft.headers), body=body)

    def finish(self, reply: Reply, request: Request) -> Reply:  # noqa: ARG002 (native replies are small and sent as they are)
        """Return the reply as it is."""
        return reply

    def refuse(self, error: Exception, request: Request) -> Reply:
        """Return the error as problem+json."""
        return refusal(error, request)


def parse(body: bytes, version: ServedVersion, terms: Terms, *, limits: GatewaySettings) -> Call:
    """Read and check a predict body against the version, and count its units.

    Raises:
        RequestMalformed: it is not JSON of the right form (400).
        InvalidInput: the version does not take this input or these parameters (422).
    """
    input_data, parameters = read_fields(body)
    return prepare_call(input_data, parameters, version, terms, limits=limits, body_bytes=len(body))


def read_fields(body: bytes) -> tuple[object, Mapping[str, Any]]:
    """Return a body's `input_data` and `parameters`.

    Raises:
        RequestMalformed: it is not JSON of the right form (400).
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
    return fields["input_data"], parameters


def prepare_call(
    input_data: object, parameters: Mapping[str, Any], version: ServedVersion, terms: Terms, *, limits: GatewaySettings, body_bytes: int
) -> Call:
    """Check a body's fields against the version, and count its units.

    Raises:
        InvalidInput: the version does not take this input or these parameters (422).
    """
    pipeline = version.bundle.pipeline
    if pipeline is None:
        return _tensor_call(input_data, parameters, version, terms, body_bytes=body_bytes)
    pipeline.validate_parameters(parameters)
    prepared = pipeline.prepare(input_data, max_rows=limits.max_rows, max_characters=limits.max_characters)
    rows = len(prepared.rows)
    units = count_units(terms, rows=rows, tokens=prepared.tokens, body_bytes=body_bytes)
    return Call(prepared, {}, parameters, rows, units)


def _tensor_call(input_data: object, parameters: Mapping[str, object], version: ServedVersion, terms: Terms, *, body_bytes: int) -> Call:
    """Read and count tensors by name.

    Raises:
        InvalidInput: naming the tensor, or the parameter, at fault.
    """
    for name in parameters:
        raise InvalidInput(param=f"parameters.{name[:40]}", detail="This version has no such parameter.", reason="unknown_parameter")
    if not isinstance(input_data, dict):
        detail = "This version takes its tensors by name: an object of nested lists."
        raise InvalidInput(param="input_data", detail=detail, reason="wrong_type")
    signature = version.bundle.signature
    specs = {spec.name: spec for spec in signature.inputs}
    # An unknown name stays for `check_inputs` to refuse.
    tensors = {
        name: parse_tensor(value, specs[name], param=f"input_data.{name}") if name in specs else np.empty(0)
        for name, value in input_data.items()
    }
    signature.check_inputs(tensors, allow_nonfinite=version.allow_nonfinite, within="input_data")
    measure = signature.measure(tensors)
    units = count_units(terms, rows=measure.rows, tokens=measure.tokens, body_bytes=body_bytes)
    return Call(None, tensors, parameters, measure.rows, units)


def render_tensors(outputs: Mapping[str, npt.NDArray[Any]], signature: Signature) -> dict[str, Any]:
    """Return outputs by name, in the graph's order, as orjson takes them. NaN and infinities become null."""
    return {
        spec.name: render_tensor(outputs[spec.name], spec, document=orjson.Fragment) for spec in signature.outputs if spec.name in outputs
    }


def render(
    *,
    request_id: str,
    version: ServedVersion,
    prediction: object,
) -> bytes:
    """Return the body of an answered call, all but its usage."""
    return orjson.dumps(
        {
            "id": request_id,
            "model": version.model_path,
            "version": version.number,
            "prediction": prediction,
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
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
