"""The OpenAPI 3.1 document of the whole API, made once for each process."""

import json
from functools import cache
from typing import Any

from django.http import HttpResponse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from rest_framework.request import Request

from marketplace.api.endpoint import OpenEndpoint
from marketplace.api.gateway_schema import SECURITY_SCHEME, gateway_paths


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # Registers itself, untyped.
    """Documents `Authorization: Bearer <key>`."""

    target_class = "marketplace.api.authentication.KeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:  # noqa: ARG002 (its signature)
        """Return the security scheme."""
        return dict(SECURITY_SCHEME)


def add_gateway(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Return the generated document with the gateway's operations (a postprocessing hook)."""
    result["paths"] = dict(sorted({**result["paths"], **gateway_paths()}.items()))
    return result


def without_pages(endpoints: list[tuple[str, str, str, Any]], **_: Any) -> list[tuple[str, str, str, Any]]:
    """Return the addresses below /v1/ alone (a preprocessing hook)."""
    return [endpoint for endpoint in endpoints if endpoint[0].startswith("/v1/")]


@cache
def _document() -> bytes:
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    return json.dumps(generator.get_schema(request=None, public=True)).encode()  # type: ignore[no-untyped-call]


class OpenApiDocument(OpenEndpoint):
    """`/v1/openapi.json`."""

    schema = None

    def get(self, request: Request) -> HttpResponse:  # noqa: ARG002 (DRF's signature)
        """Return the document. It needs no key, and tells nothing that the documentation does not."""
        return HttpResponse(_document(), content_type="application/json", headers={"Cache-Control": "public, max-age=300"})
