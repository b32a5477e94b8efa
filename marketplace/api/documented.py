"""How an operation is documented: what every one has in common, said once."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers

from marketplace.api.fields import View
from marketplace.problems import PROBLEMS, type_url

F = TypeVar("F", bound=Callable[..., Any])

PROBLEM_TYPE = "application/problem+json"
# What any address with a key may answer.
_USUAL = ("key_missing", "key_revoked", "scope_missing", "organization_suspended", "rate_limited", "storage_unavailable", "internal_error")
_OPEN = ("rate_limited", "storage_unavailable", "internal_error")


class FaultView(View):
    """One fault of the request."""

    param = serializers.CharField()
    code = serializers.CharField()
    detail = serializers.CharField()


class ProblemView(View):
    """A refusal (RFC 9457)."""

    type = serializers.URLField(help_text="The code's documentation.")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="What happened, in a sentence.")
    code = serializers.CharField(help_text="Stable; programs compare this.")
    errors = FaultView(many=True, required=False)  # type: ignore[assignment]  # A field here, a property of serializers.
    request_id = serializers.CharField()


def operation(
    operation_id: str,
    *,
    summary: str,
    tag: str,
    answers: Any,
    takes: Any = None,
    status: int = 200,
    query: type[serializers.Serializer[Any]] | None = None,
    refusals: Sequence[str] = (),
    is_open: bool = False,
    is_csv_too: bool = False,
) -> Callable[[F], F]:
    """Document a view's method: what it takes and answers, and each way it refuses.

    Args:
        operation_id: Its name in generated clients.
        summary: Its name for people.
        tag: The group it is shown in.
        status: Of the answer.
        answers: Schema of the answer; None for an empty 204.
        takes: Schema of the body.
        query: Form of the query parameters.
        refusals: Codes of `problems.PROBLEMS`, beside those of every address.
        is_open: Whether it works without a key.
        is_csv_too: Whether it also answers as a CSV file.
    """
    responses: dict[Any, Any] = {(status, "application/json") if answers else status: OpenApiResponse(answers, description=summary)}
    if is_csv_too:
        responses[status, "text/csv"] = OpenApiTypes.STR
    codes = (*refusals, *(_OPEN if is_open else _USUAL))
    for number in sorted({PROBLEMS[code].status for code in codes}):
        matching = [code for code in codes if PROBLEMS[code].status == number]
        responses[number, PROBLEM_TYPE] = OpenApiResponse(
            ProblemView,
            description=" ".join(f"`{code}`: {PROBLEMS[code].happened}" for code in matching),
            examples=[_example(code, number) for code in matching],
        )
    return extend_schema(
        operation_id=operation_id,
        summary=summary,
        tags=[tag],
        request=takes if takes is not None else None,
        responses=responses,
        parameters=[query] if query else None,
        auth=[] if is_open else None,
    )


def _example(code: str, status: int) -> OpenApiExample:
    problem = PROBLEMS[code]
    value = {
        "type": type_url(code),
        "title": problem.title,
        "status": problem.status,
        "detail": problem.happened,
        "code": code,
        "request_id": "req_00Q1nRM7Xq0S0bXJvE4cKd",
    }
    return OpenApiExample(code, value=value, response_only=True, status_codes=[str(status)], media_type=PROBLEM_TYPE)
