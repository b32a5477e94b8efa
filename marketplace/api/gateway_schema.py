"""The gateway's operations in OpenAPI: written by hand, since no Django view answers them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings

from marketplace.api.documented import PROBLEM_TYPE
from marketplace.interfaces import Interface
from marketplace.models import CatalogueModel
from marketplace.problems import PROBLEMS

TAG: Final = "Predict"
_REFUSALS: Final = (
    *(
        "request_malformed",
        "header_invalid",
        "body_incomplete",
        "key_missing",
        "key_revoked",
        "budget_exceeded",
        "quota_exceeded",
        "max_cost_exceeded",
    ),
    *(
        "scope_missing",
        "address_not_allowed",
        "organization_suspended",
        "account_under_review",
        "model_not_found",
        "idempotency_in_progress",
        "body_too_large",
    ),
    *("invalid_input", "idempotency_key_reused", "rate_limited", "too_many_at_once", "internal_error", "queue_full", "worker_lost"),
    *("model_failed", "storage_unavailable", "deadline_exceeded"),
)
_ESTIMATE_REFUSALS: Final = tuple(
    code
    for code in _REFUSALS
    if code
    not in {"budget_exceeded", "quota_exceeded", "max_cost_exceeded", "idempotency_in_progress", "idempotency_key_reused", "queue_full"}
    and not code.startswith(("worker_", "model_failed", "deadline_"))
)
_LATER_REFUSALS: Final = (
    "budget_exceeded",
    "quota_exceeded",
    "max_cost_exceeded",
    "idempotency_in_progress",
    "webhook_invalid",
    "storage_quota_exceeded",
)
_USAGE: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["unit", "units", "cost", "currency", "livemode"],
    "properties": {
        "unit": {"type": "string", "enum": ["call", "token", "row", "byte"]},
        "units": {"type": "integer", "minimum": 1},
        "cost": {"type": "string", "description": "Exact, in currency units."},
        "currency": {"type": "string"},
        "livemode": {"type": "boolean"},
    },
}
_USAGE_EXAMPLE: Final = {"unit": "token", "units": 11, "cost": "0.000002200", "currency": "usd", "livemode": True}
_ANY_BODY: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["input_data"],
    "properties": {
        "input_data": {"description": "What the model takes; GET /v1/models/{owner}/{name} shows its schema."},
        "parameters": {"type": "object"},
    },
    "additionalProperties": False,
}
_ANY_EXAMPLE: Final[Mapping[str, Any]] = {"input_data": ["a moving, funny film", "two hours I want back"], "parameters": {"top_k": 2}}
_ANY_PREDICTION: Final[Mapping[str, Any]] = {"description": "One entry for each input."}
_PREDICTION_EXAMPLE: Final = [
    [{"label": "positive", "score": 0.97}, {"label": "negative", "score": 0.03}],
    [{"label": "negative", "score": 0.94}, {"label": "positive", "score": 0.06}],
]
_PROBLEM_SCHEMA: Final[Mapping[str, Any]] = {"$ref": "#/components/schemas/Problem"}


def gateway_paths() -> dict[str, Any]:
    """Return the OpenAPI paths of predict and estimate for any model."""
    names = [
        _parameter("owner", "path", "The model's owner.", {"type": "string"}),
        _parameter("name", "path", "The model, or model@version.", {"type": "string"}),
    ]
    return {
        "/v1/models/{owner}/{name}/predict": {"post": {**_predict(_ANY_BODY, _ANY_EXAMPLE), "parameters": [*names, *_headers()]}},
        "/v1/models/{owner}/{name}/predictions": {"post": {**_predict_later(), "parameters": [*names, *_headers()[:2]]}},
        "/v1/models/{owner}/{name}/explain": {"post": {**_explain(_ANY_BODY), "parameters": [*names, *_headers()]}},
        "/v1/models/{owner}/{name}/estimate": {"post": {**_estimate(_ANY_BODY, _ANY_EXAMPLE), "parameters": names}},
    }


def model_document(model: CatalogueModel, interface: Interface) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document of one model alone, with its own input schema."""
    schema, example = interface.schema(), interface.example()
    base = f"/v1/models/{model.path}"
    return {
        "openapi": "3.1.0",
        "info": {"title": model.title, "summary": model.summary, "version": "1"},
        "servers": [{"url": settings.SITE_URL}],
        "security": [{"key": []}],
        "paths": {
            f"{base}/predict": {"post": {**_predict(schema, example, prediction=_prediction_of(interface)), "parameters": _headers()}},
            f"{base}/estimate": {"post": _estimate(schema, example)},
        },
        "components": {
            "securitySchemes": {"key": SECURITY_SCHEME},
            "schemas": {"Problem": _problem_schema()},
        },
    }


SECURITY_SCHEME: Final[Mapping[str, Any]] = {"type": "http", "scheme": "bearer", "description": "An API key: `fb_sk_live_...`"}


def _prediction_of(interface: Interface) -> Mapping[str, Any]:
    """Return the schema of a version's `prediction`: outputs by name where it has no pipeline."""
    if interface.pipeline:
        return _ANY_PREDICTION
    outputs = interface.signature.outputs
    told = {spec.name: {"description": f"{spec.datatype}, as nested lists; NaN and infinities are null."} for spec in outputs}
    return {"type": "object", "required": list(told), "properties": told}


def _predict(
    schema: Mapping[str, Any], example: Mapping[str, Any] | None, *, prediction: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    answer = {
        "type": "object",
        "required": ["id", "model", "version", "prediction", "usage"],
        "properties": {
            "id": {"type": "string"},
            "model": {"type": "string"},
            "version": {"type": "integer"},
            "prediction": prediction or _ANY_PREDICTION,
            "usage": _USAGE,
        },
    }
    shown = {
        "id": "req_00Q1nRM7Xq0S0bXJvE4cKd",
        "model": "farebox/sentiment",
        "version": 1,
        "prediction": _PREDICTION_EXAMPLE,
        "usage": _USAGE_EXAMPLE,
    }
    return {
        "operationId": "predict",
        "summary": "Call a model",
        "description": "Only an answered call is charged. The cost is exact, and is in the answer and its headers.",
        "tags": [TAG],
        "security": [{"key": []}],
        "requestBody": _body(schema, example),
        "responses": {
            "200": _answer("The prediction.", answer, shown if prediction in (None, _ANY_PREDICTION) else None, metered=True),
            **_refusals(_REFUSALS),
        },
    }


def _predict_later() -> dict[str, Any]:
    webhook = {"type": "string", "description": "Id or address of one of your webhook endpoints, to be told how it ended."}
    body = {**_ANY_BODY, "properties": {**_ANY_BODY["properties"], "webhook": webhook}}
    shown = {"object": "prediction", "id": "prd_00Q1nRM7Xq0S0bXJvE4cKd", "status": "queued", "model": "farebox/sentiment", "version": 1}
    accepted = _answer("Accepted; Location is its address.", {"$ref": "#/components/schemas/Prediction"}, shown, metered=False)
    return {
        "operationId": "create_prediction",
        "summary": "Call a model, for later",
        "description": "Runs when there is room, and is charged when its result is there. `Prefer: respond-async` on predict does the same.",
        "tags": ["Predictions"],
        "security": [{"key": []}],
        "requestBody": _body(body, {**_ANY_EXAMPLE, "webhook": "https://example.com/farebox"}),
        "responses": {"202": accepted, **_refusals((*_ESTIMATE_REFUSALS, *_LATER_REFUSALS))},
    }


def _estimate(schema: Mapping[str, Any], example: Mapping[str, Any] | None) -> dict[str, Any]:
    answer = {
        "type": "object",
        "required": ["model", "version", "usage"],
        "properties": {"model": {"type": "string"}, "version": {"type": "integer"}, "usage": _USAGE},
    }
    shown = {"model": "farebox/sentiment", "version": 1, "usage": _USAGE_EXAMPLE}
    return {
        "operationId": "estimate",
        "summary": "Tell what a call could cost at most",
        "description": "Takes the body of predict. Nothing is run, held or charged.",
        "tags": [TAG],
        "security": [{"key": []}],
        "requestBody": _body(schema, example),
        "responses": {"200": _answer("Units and highest cost.", answer, shown, metered=False), **_refusals(_ESTIMATE_REFUSALS)},
    }


def _explain(schema: Mapping[str, Any]) -> dict[str, Any]:
    element = {"type": "object", "required": ["attribution"], "properties": {"attribution": {"type": "number"}}}
    answer = {
        "type": "object",
        "required": ["id", "model", "version", "explanation", "rows", "usage"],
        "properties": {
            "id": {"type": "string"},
            "model": {"type": "string"},
            "version": {"type": "integer"},
            "explanation": {
                "description": "One entry for each input.",
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["score", "elements"],
                    "properties": {"score": {"type": "number"}, "elements": {"type": "array", "items": element}},
                },
            },
            "rows": {"type": "integer", "description": "Rows that were run: each input, and once more for each element."},
            "usage": _USAGE,
        },
    }
    words = [{"text": "moving", "start": 2, "end": 8, "attribution": 0.21}, {"text": "film", "start": 16, "end": 20, "attribution": 0.04}]
    shown = {
        "id": "req_00Q1nRM7Xq0S0bXJvE4cKd",
        "model": "farebox/sentiment",
        "version": 1,
        "explanation": [{"label": "positive", "score": 0.887, "elements": words}],
        "rows": 6,
        "usage": _USAGE_EXAMPLE,
    }
    return {
        "operationId": "explain",
        "summary": "Tell what moved a prediction",
        "description": "Takes the body of predict. Leaves each word, or each feature, out in turn, and compares the score. Charged as the rows it runs.",
        "tags": [TAG],
        "security": [{"key": []}],
        "requestBody": _body(schema, {"input_data": "a moving, funny film"}),
        "responses": {"200": _answer("The attributions.", answer, shown, metered=True), **_refusals(_REFUSALS)},
    }


def _body(schema: Mapping[str, Any], example: Mapping[str, Any] | None) -> dict[str, Any]:
    content = {"schema": schema} if example is None else {"schema": schema, "example": example}
    return {"required": True, "content": {"application/json": content}}


def _answer(description: str, schema: Mapping[str, Any], example: Mapping[str, Any] | None, *, metered: bool) -> dict[str, Any]:
    names = ["Request-Id", "RateLimit-Policy", "RateLimit"]
    if metered:
        names += ["Farebox-Units", "Farebox-Cost", "Farebox-Currency", "Farebox-Model-Version", "Farebox-Model-Digest"]
        names += ["Farebox-Provider", "Server-Timing"]
    return {
        "description": description,
        "headers": {name: {"schema": {"type": "string"}} for name in names},
        "content": _body(schema, example)["content"],
    }


def _refusals(codes: Sequence[str]) -> dict[str, Any]:
    """Return a response for each status, telling which codes it may carry."""
    responses: dict[str, Any] = {}
    for status in sorted({PROBLEMS[code].status for code in codes}):
        told = [f"`{code}`: {PROBLEMS[code].happened}" for code in codes if PROBLEMS[code].status == status]
        responses[str(status)] = {"description": " ".join(told), "content": {PROBLEM_TYPE: {"schema": _PROBLEM_SCHEMA}}}
    return responses


def _headers() -> list[dict[str, Any]]:
    return [
        _parameter("Idempotency-Key", "header", "Repeats with it get the first reply, and are charged once. Kept 24 hours.", {"type": "string", "maxLength": 255}),
        _parameter("X-Max-Cost", "header", "Refuse the call if it could cost more, in currency units.", {"type": "string", "example": "0.002"}),
        _parameter("X-Timeout-Ms", "header", "Give up after so many milliseconds.", {"type": "integer", "minimum": 1, "maximum": settings.MAX_TIMEOUT_MS}),
    ]  # fmt: skip


def _parameter(name: str, place: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "description": description, "schema": schema}


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    fault = {"type": "object", "properties": {"param": text, "code": text, "detail": text}}
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "request_id"],
        "properties": {
            **dict.fromkeys(("type", "title", "detail", "code", "request_id"), text),
            "status": {"type": "integer"},
            "errors": {"type": "array", "items": fault},
        },
    }
