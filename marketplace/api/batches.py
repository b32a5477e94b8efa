"""`/v1/batches`: many predictions from a file, run when there is room, and their results as a file."""

import re
from collections.abc import Iterable
from typing import Any, Final

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from billing.ids import parse_public_id
from marketplace import batches, predictions
from marketplace.api.authentication import key_of, tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import AlwaysJson, Endpoint, read_query
from marketplace.api.fields import Constant, Form, Moment, PublicId, View
from marketplace.api.lists import list_of, page_form, read_page, render_list
from marketplace.errors import BodyTooLarge, NotFound, RequestMalformed
from marketplace.gateway.callers import caller_of
from marketplace.models import Batch
from marketplace.webhooks.endpoints import find_endpoint_id

TAG = "Batches"
_MODEL: Final = re.compile(r"[a-z0-9-]{1,40}/[a-z0-9-]{1,40}(?:@[1-9][0-9]{0,8})?", re.ASCII)


class RowCountsView(View):
    """A batch's rows by what became of them."""

    total = serializers.IntegerField()
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()
    cancelled = serializers.IntegerField()


class BatchView(View):
    """A batch and how far it is."""

    object = Constant("batch")
    id = PublicId("bat")
    status = serializers.ChoiceField(choices=Batch.Status.choices)
    model = serializers.CharField()
    version = serializers.IntegerField()
    livemode = serializers.BooleanField()
    rows = RowCountsView()
    cost = serializers.CharField(help_text="Of the rows that succeeded; exact, in currency units.")
    currency = serializers.CharField()
    reason = serializers.CharField(allow_null=True, help_text="Why it is paused, or why its last rows were not run: an error code.")
    created_at = Moment()
    started_at = Moment(allow_null=True)
    ended_at = Moment(allow_null=True)


class BatchFields(Form):
    """What is said of a file: query parameters, or fields beside it in a multipart body."""

    model = serializers.RegexField(
        re.compile(rf"\A{_MODEL.pattern}\Z", re.ASCII), help_text="owner/model or owner/model@3; all rows run on one version."
    )
    webhook = serializers.CharField(
        required=False, max_length=500, help_text="Id or address of an endpoint to be told when it is completed."
    )


class ResultsQuery(Form):
    """Where to go on."""

    after = serializers.IntegerField(required=False, default=0, min_value=0, help_text="The last line already read.")


class JsonLines(BaseParser):
    """Reads a JSONL file that is the body itself."""

    media_type = "application/jsonl"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:  # noqa: ARG002 (DRF's signature)
        """Return the file, as a multipart body would bring it."""
        return {"file": stream}


class FileOrBody(AlwaysJson):
    """A multipart body is taken apart, any other is the file."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        """Return the parser for the request's type."""
        multipart, lines = parsers
        return multipart if str(request.content_type).startswith("multipart/") else lines


BatchesQuery = page_form("bat", "BatchesQuery")


def _visible(request: Request) -> QuerySet[Batch]:
    """The organization's batches; to a test key only the test ones."""
    rows = tenant_of(request).batches.select_related("version__model__owner")
    return rows if key_of(request).livemode else rows.filter(livemode=False)


def _find(request: Request, batch_id: str) -> Batch:
    value = parse_public_id("bat", batch_id)
    batch = _visible(request).filter(pk=value).first() if value else None
    if batch is None:
        raise NotFound
    return batch


class Batches(Endpoint):
    """All batches."""

    scope = {"GET": "predictions:read", "POST": "predict"}
    parser_classes = [MultiPartParser, JsonLines]
    content_negotiation_class = FileOrBody

    @operation(
        "list_batches",
        summary="List batches",
        tag=TAG,
        query=BatchesQuery,
        answers=list_of(BatchView, "BatchList"),
        refusals=["request_malformed"],
    )
    def get(self, request: Request) -> Response:
        """List the organization's batches, the newest first."""
        query = read_query(request, BatchesQuery).validated_data
        page = read_page(_visible(request), query, by="created_at")
        return Response(render_list(page, request, [batches.batch_fields(batch) for batch in page.rows]))

    @operation(
        "create_batch",
        summary="Create a batch",
        tag=TAG,
        query=BatchFields,
        takes={"application/jsonl": OpenApiTypes.STR, "multipart/form-data": OpenApiTypes.OBJECT},
        answers=BatchView,
        status=201,
        refusals=["request_malformed", "model_not_found", "batch_invalid", "body_too_large", "storage_quota_exceeded", "webhook_invalid"],
    )
    def post(self, request: Request) -> Response:
        """Take a JSONL file: `{"input_data": ..., "parameters": {...}, "custom_id": "..."}` on each line.

        The file is the body, with model (and webhook) in the query, or the part `file` of a multipart body.
        """
        key = key_of(request)
        fields, content = _read_file(request)
        version = batches.find_version(key.organization, fields["model"])
        caller_of(key).check_model(version.model.path)
        endpoint_id = find_endpoint_id(key.organization_id, fields["webhook"]) if fields.get("webhook") else None
        batch = batches.create_batch(key=key, version=version, lines=batches.parse_lines(content), endpoint_id=endpoint_id)
        predictions.nudge_safely()
        shown = batches.batch_fields(batch)
        return Response(shown, status=201, headers={"Location": f"/v1/batches/{shown['id']}"})


def _read_file(request: Request) -> tuple[dict[str, Any], bytes]:
    """Return what was said of the file, and its bytes, of either kind of request."""
    parts: Any = request.data
    file = parts.get("file")
    if file is None or isinstance(file, str):
        message = "Send the JSONL file as the body, or as the part named file of a multipart body."
        raise RequestMalformed(message, param="file")
    said = {name: value for name, value in parts.items() if name != "file"}
    fields = BatchFields(data={**request.query_params.dict(), **said})
    fields.is_valid(raise_exception=True)
    return fields.validated_data, _bounded(file.read(settings.MAX_BATCH_BYTES + 1))


def _bounded(content: bytes) -> bytes:
    if len(content) > settings.MAX_BATCH_BYTES:
        message = f"The file is larger than {settings.MAX_BATCH_BYTES} bytes."
        raise BodyTooLarge(message)
    return content


class OneBatch(Endpoint):
    """One batch."""

    scope = {"GET": "predictions:read"}

    @operation("get_batch", summary="Show a batch", tag=TAG, answers=BatchView, refusals=["not_found"])
    def get(self, request: Request, batch_id: str) -> Response:
        """Show a batch and how far it is."""
        return Response(batches.batch_fields(_find(request, batch_id)))


class BatchCancellation(Endpoint):
    """One batch's end before its time."""

    scope = {"POST": "predict"}

    @operation("cancel_batch", summary="Cancel a batch", tag=TAG, answers=BatchView, refusals=["not_found", "already_ended"])
    def post(self, request: Request, batch_id: str) -> Response:
        """Cancel a batch: rows that have not ended cost nothing. Those that succeeded stay. Again changes nothing."""
        batch = _find(request, batch_id)
        batches.cancel_batch(batch)
        return Response(batches.batch_fields(batch))


class BatchResults(Endpoint):
    """One batch's results."""

    scope = {"GET": "predictions:read"}

    @extend_schema(
        operation_id="get_batch_results",
        summary="Download a batch's results",
        tags=[TAG],
        parameters=[ResultsQuery],
        responses={(200, "application/jsonl"): OpenApiResponse(OpenApiTypes.STR, description="One line for each row that has ended.")},
    )
    def get(self, request: Request, batch_id: str) -> HttpResponse:
        """Return a JSON line for each row that has ended, in the file's order: its prediction and usage, or its error.

        At most 16 MB at a time: where there is more, `Link` names the next address.
        """
        batch = _find(request, batch_id)
        after: int = read_query(request, ResultsQuery).validated_data["after"]
        written, after = batches.read_results(batch, after=after)
        reply = HttpResponse(b"".join(written), content_type="application/jsonl")
        if batch.predictions.filter(line__gt=after, ended_at__isnull=False).exists():
            reply["Link"] = f'<{request.path}?after={after}>; rel="next"'
        return reply
