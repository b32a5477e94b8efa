"""What every address of the REST API has in common: strict JSON, a Request-Id, plain refusals."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, TypeVar

from django.http import HttpRequest
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from billing.ids import public_id, uuid7
from inference.errors import EngineStopping
from marketplace.api.limits import admit_key, rate_headers
from marketplace.errors import BodyTooLarge, MethodNotAllowed, NotFound
from marketplace.gateway.strict_json import parse_json
from marketplace.logs import current_request

S = TypeVar("S", bound="Serializer[Any]")

# Bodies here are settings of keys; nothing honest comes near.
MAX_BODY_BYTES: Final = 64 * 1024


class StrictJson(BaseParser):
    """Reads JSON as the gateway does: no duplicate fields, no NaN, bounded in size and depth."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:  # noqa: ARG002 (DRF's signature)
        """Return the parsed body.

        Raises:
            BodyTooLarge, RequestMalformed.
        """
        body = stream.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            message = f"The body is larger than {MAX_BODY_BYTES} bytes."
            raise BodyTooLarge(message)
        return parse_json(body)


class AlwaysJson(BaseContentNegotiation):
    """JSON in and out whatever the headers say: clients that send no Content-Type are common."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:  # noqa: ARG002 (DRF's signature)
        """Return the only parser."""
        return next(iter(parsers))

    def select_renderer(
        self,
        request: Request,  # noqa: ARG002 (DRF's signature)
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,  # noqa: ARG002 (the same)
    ) -> tuple[BaseRenderer, str]:
        """Return the only renderer."""
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)


class Endpoint(APIView):
    """One address of the REST API."""

    scope: ClassVar[Mapping[str, str]]  # Of each method; see `permissions.py`.
    http_method_names = ["get", "head", "post", "patch", "delete"]
    parser_classes = [StrictJson]
    content_negotiation_class = AlwaysJson
    rates: Mapping[str, str] = {}  # The RateLimit headers, once the limit was asked.
    default_response_headers: ClassVar[dict[str, str]] = {}  # DRF would say Allow and Vary on every answer.

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Give the request its id."""
        fresh: Request = super().initialize_request(request, *args, **kwargs)
        came = current_request()  # None where no server handed it on.
        fresh.id = came.id if came else uuid7()  # type: ignore[attr-defined]
        return fresh

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let in a known key with the scope, within its rate.

        Raises:
            RateLimited: beside what authentication and permissions refuse.
        """
        super().initial(request, *args, **kwargs)
        self.rates = rate_headers("key", admit_key(request))

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        """Add the headers that every answer has."""
        reply = super().finalize_response(request, response, *args, **kwargs)
        reply.headers["Request-Id"] = public_id("req", request.id)  # type: ignore[attr-defined]
        reply.headers.setdefault("Cache-Control", "no-store")
        for name, value in self.rates.items():
            reply.headers[name] = value
        return reply


class OpenEndpoint(Endpoint):
    """An address that needs no key."""

    scope: ClassVar[Mapping[str, str]] = {}
    authentication_classes = []
    permission_classes = []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let in whoever comes."""
        APIView.initial(self, request, *args, **kwargs)


class Nowhere(OpenEndpoint):
    """What any other address below /v1/ answers: 404 as a problem."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 (DRF's signature)
        """Refuse whatever the method."""
        raise NotFound


class GatewayOnly(OpenEndpoint):
    """The gateway's addresses, met by a method it does not take, or before it is up."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 (DRF's signature)
        """Refuse; only a POST that comes while the site starts or stops gets as far as here."""
        if request.method == "POST":
            raise EngineStopping
        raise MethodNotAllowed(allow="POST")


def read_body(request: Request, form: type[S]) -> S:
    """Return the body as a valid form.

    Raises:
        RequestMalformed, ValidationError: it is not one, or has unknown fields.
    """
    fields = form(data=request.data)
    fields.is_valid(raise_exception=True)
    return fields


def read_query(request: Request, form: type[S]) -> S:
    """Return the query parameters as a valid form; of repeated ones the last counts.

    Raises:
        ValidationError: they are not, or one is unknown.
    """
    fields = form(data=request.query_params.dict())
    fields.is_valid(raise_exception=True)
    return fields
