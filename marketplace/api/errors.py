"""Every refusal of the REST API as problem+json, of the same form as the gateway's."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.errors import StorageUnavailable
from billing.ids import public_id
from marketplace.errors import (
    BodyTooLarge,
    MethodNotAllowed,
    NotFound,
    RequestMalformed,
    ScopeMissing,
)
from marketplace.problems import problem_fields, status_of

log = logging.getLogger(__name__)

_OURS: Final[tuple[tuple[type[Exception], Callable[[], Exception]], ...]] = (
    (RequestDataTooBig, BodyTooLarge),
    (Http404, NotFound),
    (PermissionDenied, ScopeMissing),
    (exceptions.PermissionDenied, ScopeMissing),
    (exceptions.ParseError, lambda: RequestMalformed("The body is not JSON.")),
)


def render_problem(error: Exception, context: Mapping[str, Any]) -> Response:
    """Return the problem that an error is to its caller. Unforeseen ones are logged and show nothing."""
    request: Request = context["request"]
    request_id = public_id("req", request.id)  # type: ignore[attr-defined]  # `Endpoint` mints it.
    faults = list(_faults(error.detail)) if isinstance(error, exceptions.ValidationError) else []
    meant = _meant(error, faults, context["view"])
    status = status_of(meant)
    if status == 500:
        log.error("A request failed.", exc_info=error, extra={"request_id": request_id})
    fields = problem_fields(meant, request_id=request_id)
    if faults:
        fields["errors"] = [{"param": param, "code": "request_malformed", "detail": detail} for param, detail in faults]
    return Response(fields, status=status, headers=_headers(meant, status), content_type="application/problem+json")


def _headers(error: Exception, status: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="farebox"'
    if allow := getattr(error, "allow", None):
        headers["Allow"] = str(allow)
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is None and status in {429, 503}:
        retry_after_s = 1.0
    if retry_after_s is not None:  # Whole seconds, rounded up: sooner would be refused again.
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    return headers


def _meant(error: Exception, faults: list[tuple[str, str]], view: APIView) -> Exception:
    """Return our own error for one of Django's or the framework's."""
    if faults:
        param, detail = faults[0]
        return RequestMalformed(f"{param}: {detail}" if param else detail, param=param or None)
    if isinstance(error, exceptions.MethodNotAllowed):
        return MethodNotAllowed(allow=", ".join(view.allowed_methods))
    if isinstance(error, OperationalError):  # Locked, full or away: the same as at the gateway.
        log.warning("The database cannot be used: %s", error)
        return StorageUnavailable()
    for theirs, ours in _OURS:
        if isinstance(error, theirs):
            return ours()
    return error


def _faults(detail: Any, param: str = "") -> Iterator[tuple[str, str]]:
    """Yield each fault of a ValidationError as (parameter, sentence): `scopes[2]`, "..."."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            if name == "non_field_errors":
                path = param
            elif isinstance(name, int):
                path = f"{param}[{name}]"
            else:
                path = f"{param}.{name}" if param else str(name)
            yield from _faults(inner, path)
    elif isinstance(detail, list):
        for inner in detail:
            yield from _faults(inner, param)
    else:
        yield param, str(detail)
