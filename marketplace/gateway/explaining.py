"""`explain`: which elements moved a prediction, leaving each out in turn. A wire of the metered line.

Takes the body of predict. A text's elements are its words; those of a row of numbers are its features.
It is charged as what it runs: the whole, and once more for each element.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from billing.pricing import Terms
from inference import explain
from inference.engine import Engine, Inferred, Priority
from inference.errors import InvalidInput, ModelFailed
from inference.pipelines.pipeline import Prepared, TextPipeline
from inference.signature import Signature, TensorSpec
from marketplace.gateway import native
from marketplace.gateway.cache import hash_rows, hash_tensors
from marketplace.gateway.options import GatewaySettings
from marketplace.gateway.replies import Reply, answer, refusal
from marketplace.gateway.request import Request
from marketplace.gateway.units import count_units
from marketplace.gateway.versions import ServedVersion

# Attributions are differences of float32 scores: more digits would print noise.
_DIGITS: Final = 6


class ExplainCall(NamedTuple):
    """What is explained, with the rows that it takes: each example's own first, then without each element."""

    texts: Sequence[str]  # Of a version with a pipeline.
    prepared: Prepared | None
    features: npt.NDArray[Any] | None  # Of a version without, `(examples, features)`.
    baseline: npt.NDArray[Any] | None  # `(features,)`.
    tensors: Mapping[str, npt.NDArray[Any]]
    elements: Sequence[int]  # Of each example.
    asked: Mapping[str, Any]  # The parameters: `label`, or `output` and `index`.
    units: int
    timeout_us: int | None = None

    @property
    def rows(self) -> int:
        """How many rows it runs."""
        return sum(self.elements) + len(self.elements)


class ExplainWire:
    """The body of predict in, attributions out."""

    def parse(self, request: Request, body: bytes, version: ServedVersion, terms: Terms, *, limits: GatewaySettings) -> ExplainCall:  # noqa: ARG002 (headers say nothing of a native body)
        """Read and check a body, and make the rows that explain it.

        Raises:
            RequestMalformed: it is not JSON of the right form (400).
            InvalidInput: the version does not take it, cannot be explained, or it takes too many rows (422).
        """
        input_data, parameters = native.read_fields(body)
        pipeline = version.bundle.pipeline
        if pipeline is not None and not isinstance(pipeline, TextPipeline):
            detail = "Predictions from images, and from word pieces, cannot be explained."
            raise InvalidInput(param="input_data", detail=detail, reason="not_explainable")
        if pipeline is not None:
            return _explain_texts(input_data, parameters, version, terms, limits=limits, body_bytes=len(body))
        return _explain_features(input_data, parameters, version, terms, limits=limits, body_bytes=len(body))

    def infer(
        self, engine: Engine, call: ExplainCall, version: ServedVersion, *, tenant: str, deadline: float, priority: Priority
    ) -> Awaitable[Inferred]:
        """Run all rows, batched as any."""
        if call.prepared is not None:
            return engine.infer(version.bundle, call.prepared.rows, tenant=tenant, deadline=deadline, priority=priority)
        outputs = [call.asked["output"]]
        return engine.infer_tensors(
            version.bundle,
            call.tensors,
            outputs=outputs,
            tenant=tenant,
            deadline=deadline,
            allow_nonfinite=version.allow_nonfinite,
            priority=priority,
        )

    def identify(self, call: ExplainCall) -> bytes:
        """Return a hash of the rows it runs."""
        if call.prepared is not None:
            return hash_rows(call.prepared.rows)
        return hash_tensors(call.tensors, [call.asked["output"]])

    def render(self, call: ExplainCall, inferred: Inferred, *, request: Request, version: ServedVersion) -> Reply:
        """Return the reply with its `explanation`, one entry for each example."""
        explained = _render_texts(call, inferred, version) if call.prepared is not None else _render_features(call, inferred)
        fields = {
            "id": request.public_id,
            "model": version.model_path,
            "version": version.number,
            "explanation": explained,
            "rows": call.rows,
        }
        return answer(orjson.dumps(fields), [])

    def bill(self, draft: Reply, usage: Mapping[str, object], receipt: str) -> Reply:
        """Return the reply with its `usage`, as predict's has it."""
        return native.NATIVE.bill(draft, usage, receipt)

    def finish(self, reply: Reply, request: Request) -> Reply:  # noqa: ARG002 (small, and sent as it is)
        """Return the reply as it is."""
        return reply

    def refuse(self, error: Exception, request: Request) -> Reply:
        """Return the error as problem+json."""
        return refusal(error, request)


def _check_rows(elements: Sequence[int], *, limits: GatewaySettings) -> None:
    """Refuse what would run more rows than a call may.

    Raises:
        InvalidInput: it would.
    """
    rows = sum(elements) + len(elements)
    if rows > limits.max_rows:
        detail = f"Explaining {sum(elements)} elements runs {rows} rows; a call may run {limits.max_rows}."
        raise InvalidInput(param="input_data", detail=detail, reason="wrong_row_count")


def _check_parameters(parameters: Mapping[str, Any], known: frozenset[str]) -> None:
    for name in parameters:
        if name not in known:
            detail = f"Explaining this version takes {', '.join(sorted(known))}."
            raise InvalidInput(param=f"parameters.{name[:40]}", detail=detail, reason="unknown_parameter")


# ------------------------------------------------------------ Texts


def _explain_texts(
    input_data: object, parameters: Mapping[str, Any], version: ServedVersion, terms: Terms, *, limits: GatewaySettings, body_bytes: int
) -> ExplainCall:
    """Make a row for each text, and one without each of its words."""
    pipeline = version.bundle.pipeline
    assert isinstance(pipeline, TextPipeline)
    _check_parameters(parameters, frozenset({"label"}))
    if "label" in parameters and parameters["label"] not in pipeline.labels:
        detail = f"This version's labels are {', '.join(pipeline.labels)}."
        raise InvalidInput(param="parameters.label", detail=detail, reason="unknown_label")
    whole = pipeline.prepare(input_data, max_rows=limits.max_rows, max_characters=limits.max_characters)
    elements = [row.size for row in whole.rows]
    _check_rows(elements, limits=limits)
    rows = [part for row in whole.rows for part in explain.without_each_id(row, filler=pipeline.unknown_id)]
    prepared = Prepared(rows, whole.single, sum(row.size for row in rows))
    units = count_units(terms, rows=len(rows), tokens=prepared.tokens, body_bytes=body_bytes)
    texts = [input_data] if isinstance(input_data, str) else input_data
    assert isinstance(texts, list)  # Else `prepare` has refused it.
    return ExplainCall(texts, prepared, None, None, {}, elements, parameters, units)


def _render_texts(call: ExplainCall, inferred: Inferred, version: ServedVersion) -> list[dict[str, Any]]:
    pipeline = version.bundle.pipeline
    assert isinstance(pipeline, TextPipeline)
    assert call.prepared is not None
    ranked = pipeline.render(call.prepared, inferred.outputs, {})
    explained = []
    first = 0
    for text, count in zip(call.texts, call.elements, strict=True):
        rows = ranked[first : first + count + 1]
        first += count + 1
        label = call.asked.get("label") or rows[0][0]["label"]
        scores = [float(next(entry["score"] for entry in row if entry["label"] == label)) for row in rows]
        # The pipeline may have cut the text off: the spans beyond it were not read.
        spans = pipeline.spans(text)[:count]
        elements = [
            {"text": text[span.start : span.end], "start": span.start, "end": span.end, "attribution": round(attribution, _DIGITS)}
            for span, attribution in zip(spans, explain.attributions(scores), strict=True)
        ]
        explained.append({"label": label, "score": scores[0], "elements": elements})
    return explained


# ------------------------------------------------------------ Features


def _explain_features(
    input_data: object, parameters: Mapping[str, Any], version: ServedVersion, terms: Terms, *, limits: GatewaySettings, body_bytes: int
) -> ExplainCall:
    """Make a row for each example, and one with each of its features at the baseline."""
    _check_parameters(parameters, frozenset({"output", "index", "baseline"}))
    signature = version.bundle.signature
    spec = _table_of(signature)
    call = native.prepare_call(input_data, {}, version, terms, limits=limits, body_bytes=body_bytes)
    features = call.tensors[spec.name]
    examples, count = features.shape
    elements = [count] * examples
    if not examples or not count:
        raise InvalidInput(param=f"input_data.{spec.name}", detail="Send at least one row with one feature.", reason="wrong_row_count")
    _check_rows(elements, limits=limits)
    baseline = _baseline_of(parameters.get("baseline", 0), features)
    index = parameters.get("index", 0)
    if type(index) is not int or index < 0:
        raise InvalidInput(param="parameters.index", detail="Send a whole number from 0 on.", reason="wrong_type")
    rows = np.concatenate([explain.without_each_feature(row, baseline) for row in features])
    tensors = {spec.name: rows}
    measure = signature.measure(tensors)
    units = count_units(terms, rows=measure.rows, tokens=measure.tokens, body_bytes=body_bytes)
    asked = {**parameters, "output": _output_of(parameters, signature)}
    return ExplainCall((), None, features, baseline, tensors, elements, asked, units)


def _table_of(signature: Signature) -> TensorSpec:
    """Return the one input, a table of numbers.

    Raises:
        InvalidInput: the version takes something else.
    """
    required = [spec for spec in signature.inputs if not spec.optional]
    if len(required) == 1 and signature.has_rows and len(required[0].shape) == 2 and required[0].datatype not in {"BYTES", "BOOL"}:
        return required[0]
    detail = "Only versions that take texts, or one table of numbers [-1, features], can be explained."
    raise InvalidInput(param="input_data", detail=detail, reason="not_explainable")


def _output_of(parameters: Mapping[str, Any], signature: Signature) -> str:
    """Return the output that is explained: the one named, or the first of fractional numbers.

    Raises:
        InvalidInput: there is none.
    """
    names = [spec.name for spec in signature.outputs if spec.kind == "tensor" and spec.datatype.startswith("FP")]
    if not names:
        raise InvalidInput(param="parameters.output", detail="This version has no output of scores.", reason="not_explainable")
    name = parameters.get("output", names[0])
    if name not in names:
        detail = f"This version's outputs of scores are {', '.join(names)}."
        raise InvalidInput(param="parameters.output", detail=detail, reason="unknown_output")
    return str(name)


def _baseline_of(baseline: object, features: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what each feature is when it says nothing.

    Raises:
        InvalidInput: it is neither a number nor one for each feature, or the input's datatype cannot hold it.
    """
    count = features.shape[1]
    numbers: list[Any] = baseline if isinstance(baseline, list) else [baseline] * count
    if len(numbers) != count or not {type(number) for number in numbers} <= {int, float}:
        detail = f"Send a number, or a list of {count}."
        raise InvalidInput(param="parameters.baseline", detail=detail, reason="wrong_type")
    # As doubles first: they hold every number that a table of features has use for, and no overflow raises.
    exact = np.array([float(number) if abs(number) < 2**1000 else np.inf for number in numbers])
    with np.errstate(over="ignore", invalid="ignore"):
        array = exact.astype(features.dtype)
    whole = features.dtype.kind in "iu"
    if not np.isfinite(array).all() or (whole and (array.astype(np.float64) != exact).any()):
        detail = f"A number is none that {features.dtype} can hold."
        raise InvalidInput(param="parameters.baseline", detail=detail, reason="out_of_range")
    return array


def _render_features(call: ExplainCall, inferred: Inferred) -> list[dict[str, Any]]:
    output = call.asked["output"]
    scored = inferred.outputs[output]
    assert call.features is not None
    assert call.baseline is not None
    if scored.ndim == 0 or scored.shape[0] != call.rows or not scored.size:
        message = f"{output} has shape {scored.shape} for {call.rows} rows"
        raise ModelFailed(message)
    columns = scored.reshape(call.rows, -1).astype(np.float64)
    if call.asked.get("index", 0) >= columns.shape[1]:
        detail = f"{output} has {columns.shape[1]} values in a row."
        raise InvalidInput(param="parameters.index", detail=detail, reason="out_of_range")
    explained = []
    for place, features in enumerate(call.features):
        first = place * (features.size + 1)
        rows = columns[first : first + features.size + 1]
        index = call.asked.get("index", int(rows[0].argmax()))
        moved = explain.attributions(rows[:, index].tolist())
        elements = [
            {"index": number, "value": value, "baseline": base, "attribution": round(attribution, _DIGITS)}
            for number, (value, base, attribution) in enumerate(zip(features.tolist(), call.baseline.tolist(), moved, strict=True))
        ]
        explained.append({"output": output, "index": index, "score": round(float(rows[0, index]), _DIGITS), "elements": elements})
    return explained


EXPLAIN: Final = ExplainWire()
