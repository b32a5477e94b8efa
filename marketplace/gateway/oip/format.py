"""The Open Inference Protocol's `infer`, as a wire of the metered line."""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy.typing as npt

from billing.pricing import Terms
from inference.engine import Engine, Inferred, Priority
from inference.errors import InvalidInput
from inference.pipelines.pipeline import Prepared
from marketplace.gateway.cache import hash_rows, hash_tensors
from marketplace.gateway.oip.compression import accepted_encoding, compress, inflate
from marketplace.gateway.oip.requests import HEADER_LENGTH, InferRequest, RequestedOutput, parse_request
from marketplace.gateway.oip.responses import Output, classify, render_json, render_response
from marketplace.gateway.oip.views import examples_of, labels_of, signature_of, tensors_of
from marketplace.gateway.options import GatewaySettings
from marketplace.gateway.replies import Reply, refusal_headers
from marketplace.gateway.request import Request
from marketplace.gateway.units import count_units
from marketplace.gateway.versions import ServedVersion
from marketplace.problems import problem_fields, status_of


class OipCall(NamedTuple):
    """One `infer`, checked and counted."""

    asked: InferRequest
    outputs: Sequence[RequestedOutput]
    prepared: Prepared | None  # The texts' rows, where the version has a pipeline.
    rows: int
    units: int

    @property
    def timeout_us(self) -> int | None:
        """The request's parameter `timeout`, in microseconds."""
        return self.asked.timeout_us


class OipWire:
    """JSON and binary tensors in and out; errors as `{"error": ...}`."""

    def parse(self, request: Request, body: bytes, version: ServedVersion, terms: Terms, *, limits: GatewaySettings) -> OipCall:
        """Inflate and read a body, check it against the version, and count its units.

        Raises:
            RequestMalformed, HeaderInvalid, BodyTooLarge: it is not of the protocol's form (400, 413).
            InvalidInput: the version does not take it (422).
        """
        full = inflate(body, request.header(b"content-encoding"), limit_bytes=version.max_body_bytes)
        asked = parse_request(full, request.header(HEADER_LENGTH))
        for name in asked.parameters:
            raise InvalidInput(param=f"parameters.{name[:80]}", detail="There is no such parameter here.", reason="unknown_parameter")
        outputs = _choose_outputs(asked, version)
        pipeline = version.bundle.pipeline
        if pipeline is None:
            return _tensor_call(asked, outputs, version, terms, body_bytes=len(full))
        prepared = pipeline.prepare(examples_of(asked.inputs, pipeline), max_rows=limits.max_rows, max_characters=limits.max_characters)
        # Counted inflated: the same tensors cost the same however they travel.
        units = count_units(terms, rows=len(prepared.rows), tokens=prepared.tokens, body_bytes=len(full))
        return OipCall(asked, outputs, prepared, len(prepared.rows), units)

    def infer(
        self, engine: Engine, call: OipCall, version: ServedVersion, *, tenant: str, deadline: float, priority: Priority
    ) -> Awaitable[Inferred]:
        """Run the call, batched with other calls'."""
        if call.prepared is not None:
            return engine.infer(version.bundle, call.prepared.rows, tenant=tenant, deadline=deadline, priority=priority)
        names = [output.name for output in call.outputs]
        return engine.infer_tensors(
            version.bundle,
            call.asked.inputs,
            outputs=names,
            tenant=tenant,
            deadline=deadline,
            allow_nonfinite=version.allow_nonfinite,
            priority=priority,
        )

    def identify(self, call: OipCall) -> bytes:
        """Return a hash of what is sent to the model, and wanted of it."""
        if call.prepared is not None:
            return hash_rows(call.prepared.rows)
        return hash_tensors(call.asked.inputs, [output.name for output in call.outputs])

    def render(self, call: OipCall, inferred: Inferred, *, request: Request, version: ServedVersion) -> Reply:  # noqa: ARG002 (its id is in the headers)
        """Return the reply: JSON, and the tensors that were asked for in binary form."""
        tensors = inferred.outputs
        pipeline = version.bundle.pipeline
        if pipeline is not None and call.prepared is not None:
            tensors = tensors_of(pipeline.render(call.prepared, inferred.outputs, {}), pipeline)
        outputs = [Output(wanted, _classified(wanted, tensors[wanted.name], version)) for wanted in call.outputs]
        return render_response(model=version.model_path, version=version.number, identity=call.asked.id, outputs=outputs)

    def bill(self, draft: Reply, usage: Mapping[str, object], receipt: str) -> Reply:  # noqa: ARG002 (every bill's headers say it)
        """Return the reply with its receipt in a header: the body has no place for a bill."""
        return replace(draft, headers=[*draft.headers, (b"farebox-receipt", receipt.encode())])

    def finish(self, reply: Reply, request: Request) -> Reply:
        """Compress the reply if the caller asked for that.

        After it was stored for its Idempotency-Key: a repeated request may ask otherwise.
        """
        encoding = accepted_encoding(request.header(b"accept-encoding"), size_bytes=len(reply.body))
        if encoding:
            reply.body = compress(reply.body, encoding)
            reply.headers.append((b"content-encoding", encoding.encode()))
        return reply

    def refuse(self, error: Exception, request: Request) -> Reply:
        """Return the error as the protocol has it: one text, which begins with the code that its documentation goes by."""
        fields = problem_fields(error, request_id=request.public_id)
        status = status_of(error)
        reply = render_json({"error": f"{fields['code']}: {fields['detail']}"}, status=status)
        reply.headers += refusal_headers(error, status)
        return reply


def _choose_outputs(asked: InferRequest, version: ServedVersion) -> Sequence[RequestedOutput]:
    """Return the outputs to send: those asked for, or all.

    Raises:
        InvalidInput: there is no such output.
    """
    names = [spec.name for spec in signature_of(version).outputs]
    if asked.outputs is None:
        return [RequestedOutput(name, binary=asked.binary, classes=0) for name in names]
    for output in asked.outputs:
        if output.name not in names:
            detail = f"This version has no such output; it gives {', '.join(names)}."
            raise InvalidInput(param=f"outputs.{output.name[:80]}", detail=detail, reason="unknown_output")
    return asked.outputs


def _tensor_call(
    asked: InferRequest, outputs: Sequence[RequestedOutput], version: ServedVersion, terms: Terms, *, body_bytes: int
) -> OipCall:
    """Check and count a call with the graph's own tensors.

    Raises:
        InvalidInput: the graph does not take them.
    """
    signature = version.bundle.signature
    signature.check_inputs(asked.inputs, allow_nonfinite=version.allow_nonfinite)
    measure = signature.measure(asked.inputs)
    units = count_units(terms, rows=measure.rows, tokens=measure.tokens, body_bytes=body_bytes)
    return OipCall(asked, outputs, None, measure.rows, units)


def _classified(wanted: RequestedOutput, array: npt.NDArray[Any], version: ServedVersion) -> npt.NDArray[Any]:
    if not wanted.classes:
        return array
    by_row = signature_of(version).has_rows
    return classify(array, wanted.classes, by_row=by_row, labels=labels_of(version), name=wanted.name)


OIP: Final = OipWire()
