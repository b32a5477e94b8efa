"""`/v1/models/{owner}/{name}/versions`: a provider's own versions, from upload to retirement."""

from typing import Any, Final

from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from billing.models import Price
from inference.gate.report import Outcome
from marketplace import publishing
from marketplace.api.authentication import key_of, tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, read_body, read_query
from marketplace.api.fields import Amount, Constant, Form, Moment, PublicId, Text, View, Whole
from marketplace.api.lists import list_of, page_form, read_page, render_list
from marketplace.api.prices import PriceView
from marketplace.errors import ModelNotFound, NotFound, RequestMalformed, ScopeMissing
from marketplace.gateway.callers import caller_of
from marketplace.models import CatalogueModel, ModelVersion

TAG = "Publishing"
# Names of an upload's parts, and the file that each becomes.
PARTS: Final = {
    "model": "model.onnx",
    "pipeline": "pipeline.json",
    "vocabulary": "vocabulary.txt",
    "tokenizer": "tokenizer.json",
    "samples": "samples.json",
    "card": "card.json",
}


class CheckView(View):
    """One question of the examination and its answer."""

    name = serializers.CharField()
    outcome = serializers.ChoiceField(choices=[str(outcome) for outcome in Outcome])
    detail = serializers.CharField()


class ReportView(View):
    """What the publish gate found."""

    gate = serializers.IntegerField(help_text="The gate's own version.")
    passed = serializers.BooleanField()
    checks = CheckView(many=True)
    figures = serializers.DictField(help_text="What was measured: seconds, milliseconds, bytes, differences.")


class Int8View(View):
    """The int8 model that the gate made and kept."""

    digest = serializers.CharField(source="int8_digest")
    size_bytes = serializers.IntegerField(source="int8_size_bytes")


class OwnVersionView(View):
    """One of the caller's own versions, in whatever state."""

    object = Constant("model_version")
    id = PublicId("ver")
    sku = serializers.CharField(help_text="owner/name@number, as bills call it.")
    number = serializers.IntegerField()
    state = serializers.ChoiceField(choices=[str(state) for state in ModelVersion.State.values])
    digest = serializers.CharField(help_text="SHA-256 of model.onnx, hexadecimal.")
    size_bytes = serializers.IntegerField()
    int8 = Int8View(allow_null=True)
    int8_tolerance = serializers.FloatField(allow_null=True)
    traffic_weight = serializers.IntegerField()
    report = ReportView(allow_null=True, help_text="null until it is examined.")
    prices = PriceView(many=True)
    created_at = Moment()
    published_at = Moment(allow_null=True)


class UploadForm(Form):
    """A version to be examined: multipart/form-data."""

    model = serializers.FileField(help_text="The ONNX file, all weights inside.")
    pipeline = serializers.FileField(required=False, help_text="pipeline.json; without it callers send named tensors.")
    vocabulary = serializers.FileField(required=False, help_text="vocabulary.txt, one token a line.")
    tokenizer = serializers.FileField(required=False, help_text="tokenizer.json, where pipeline.json names it.")
    samples = serializers.FileField(required=False, help_text="samples.json, a list of what `input_data` of a call may be.")
    card = serializers.FileField(required=False, help_text="card.json, facts of the model card.")
    unit = serializers.ChoiceField(choices=Price.Unit.values)
    unit_price = Amount(help_text="Of one unit.")
    int8_tolerance = serializers.FloatField(
        required=False, help_text="How far an int8 model's answers may be from float32's on the samples; without it none is made."
    )


class LiveForm(Form):
    """With how much of the traffic a version goes live."""

    share_percent = Whole(default=100, min_value=0, max_value=100, help_text="Of the calls that name no version.")


class ShareForm(Form):
    """A new share of the traffic."""

    share_percent = Whole(
        min_value=0, max_value=100, help_text="Of the calls that name no version; the others keep theirs relative to each other."
    )


class VersionPriceForm(Form):
    """A new price."""

    unit_price = Amount()
    effective_from = Moment(allow_null=True, default=None, help_text="null: now. A price that can be dearer needs notice.")


class RetireForm(Form):
    """Why a version is not sold any more."""

    reason = Text(max_length=200, default="", allow_blank=True)


VersionsQuery = page_form("ver", "VersionsQuery")


def find_own_model(request: Request, owner: str, name: str) -> CatalogueModel:
    """Return a model of the caller's organization that is on the key's list; anybody else's is absent.

    Raises:
        ModelNotFound: it is not.
    """
    caller_of(key_of(request)).check_model(f"{owner}/{name}")
    model = tenant_of(request).models.select_related("owner").filter(owner__slug=owner, name=name).first()
    if model is None:
        raise ModelNotFound
    return model


def check_publisher(request: Request) -> None:
    """Refuse a test key: what is published is sold.

    Raises:
        ScopeMissing: it is one.
    """
    if not key_of(request).livemode:
        message = "A test key cannot publish: use a live key."
        raise ScopeMissing(message)


def _find(request: Request, owner: str, name: str, number: int) -> ModelVersion:
    version = find_own_model(request, owner, name).versions.select_related("model__owner").filter(number=number).first()
    if version is None:
        raise NotFound
    return version


def _show(version: ModelVersion) -> Any:
    names = (
        "id",
        "sku",
        "number",
        "state",
        "digest",
        "size_bytes",
        "int8_tolerance",
        "traffic_weight",
        "report",
        "created_at",
        "published_at",
    )
    fields = {name: getattr(version, name) for name in names}
    prices = Price.objects.filter(sku=version.sku).order_by("effective_from")
    return OwnVersionView({**fields, "int8": version if version.has_int8 else None, "prices": prices}).data


class Versions(Endpoint):
    """All versions of one of the caller's models."""

    scope = {"GET": "models:read", "POST": "models:write"}

    def get_parsers(self) -> list[Any]:
        """Return what reads the body: files for an upload."""
        return [MultiPartParser()] if getattr(self.request, "method", "") == "POST" else super().get_parsers()

    @operation(
        "list_versions",
        summary="List your versions",
        tag=TAG,
        query=VersionsQuery,
        answers=list_of(OwnVersionView, "OwnVersionList"),
        refusals=["request_malformed", "model_not_found"],
    )
    def get(self, request: Request, owner: str, name: str) -> Response:
        """List a model's versions, those not yet published or refused as well. Only for the model's owner."""
        rows = find_own_model(request, owner, name).versions.select_related("model__owner")
        page = read_page(rows, read_query(request, VersionsQuery).validated_data, by="created_at")
        return Response(render_list(page, request, [_show(version) for version in page.rows]))

    @operation(
        "upload_version",
        summary="Upload a version",
        tag=TAG,
        takes={"multipart/form-data": UploadForm},
        answers=OwnVersionView,
        status=201,
        refusals=[
            "request_malformed",
            "model_not_found",
            "upload_invalid",
            "price_invalid",
            "model_storage_exceeded",
            "too_many_waiting",
            "uploads_refused",
            "body_too_large",
            "body_too_slow",
            "site_busy",
        ],
    )
    def post(self, request: Request, owner: str, name: str) -> Response:
        """Upload a version. It is examined within seconds to minutes: ask for it until it is `ready` or `failed`."""
        model = find_own_model(request, owner, name)
        check_publisher(request)
        fields = _read_upload(request)
        version = publishing.submit_version(
            model=model,
            files={file: fields[part].chunks() for part, file in PARTS.items() if fields.get(part) is not None},
            unit=fields["unit"],
            unit_nanos=fields["unit_price"],
            int8_tolerance=fields.get("int8_tolerance"),
            by=key_of(request),
        )
        return Response(_show(version), status=201)


def _read_upload(request: Request) -> dict[str, Any]:
    message = "The body is not multipart/form-data."
    try:
        sent = request.data
    except ParseError as error:
        raise RequestMalformed(message) from error
    if not isinstance(sent, QueryDict):  # An empty body is not parsed at all.
        raise RequestMalformed(message)
    form = UploadForm(data=sent.dict())
    form.is_valid(raise_exception=True)
    fields: dict[str, Any] = form.validated_data
    return fields


class Version(Endpoint):
    """One of the caller's versions."""

    scope = {"GET": "models:read", "PATCH": "models:write"}

    @operation("get_version", summary="Show your version", tag=TAG, answers=OwnVersionView, refusals=["model_not_found", "not_found"])
    def get(self, request: Request, owner: str, name: str, version: int) -> Response:
        """Show a version's state and the report of its examination."""
        return Response(_show(_find(request, owner, name, version)))

    @operation(
        "share_traffic",
        summary="Set a version's share of the traffic",
        tag=TAG,
        takes=ShareForm,
        answers=OwnVersionView,
        refusals=["model_not_found", "not_found", "request_malformed", "version_state_wrong", "body_too_large"],
    )
    def patch(self, request: Request, owner: str, name: str, version: int) -> Response:
        """Give a live version more or less of the calls that name none."""
        found = _find(request, owner, name, version)
        check_publisher(request)
        publishing.set_share(found, share_percent=read_body(request, ShareForm).validated_data["share_percent"], by=key_of(request))
        return Response(_show(_find(request, owner, name, version)))


class VersionLive(Endpoint):
    """A version's publication."""

    scope = {"POST": "models:write"}

    @operation(
        "publish_version",
        summary="Go live",
        tag=TAG,
        takes=LiveForm,
        answers=OwnVersionView,
        refusals=["model_not_found", "not_found", "request_malformed", "version_state_wrong", "body_too_large"],
    )
    def post(self, request: Request, owner: str, name: str, version: int) -> Response:
        """Let a version that is `ready` be called within a second, with all of the traffic or as a canary."""
        found = _find(request, owner, name, version)
        check_publisher(request)
        publishing.go_live(found, share_percent=read_body(request, LiveForm).validated_data["share_percent"], by=key_of(request))
        return Response(_show(_find(request, owner, name, version)))


class VersionPrice(Endpoint):
    """A version's next price."""

    scope = {"POST": "models:write"}

    @operation(
        "set_version_price",
        summary="Change the price",
        tag=TAG,
        takes=VersionPriceForm,
        answers=OwnVersionView,
        refusals=["model_not_found", "not_found", "request_malformed", "price_invalid", "body_too_large"],
    )
    def post(self, request: Request, owner: str, name: str, version: int) -> Response:
        """Add a price: a lower one at once, a dearer one of a version that was published with notice. Calls admitted before keep theirs."""
        found = _find(request, owner, name, version)
        check_publisher(request)
        fields = read_body(request, VersionPriceForm).validated_data
        publishing.set_version_price(found, unit_nanos=fields["unit_price"], effective_from=fields["effective_from"], by=key_of(request))
        return Response(_show(found))


class VersionRetirement(Endpoint):
    """A version's end."""

    scope = {"POST": "models:write"}

    @operation(
        "retire_version",
        summary="Retire a version",
        tag=TAG,
        takes=RetireForm,
        answers=OwnVersionView,
        refusals=["model_not_found", "not_found", "request_malformed", "version_state_wrong", "body_too_large"],
    )
    def post(self, request: Request, owner: str, name: str, version: int) -> Response:
        """Stop selling a version within a second. It stays on the bills, and cannot be brought back."""
        found = _find(request, owner, name, version)
        check_publisher(request)
        publishing.retire_version(found, reason=read_body(request, RetireForm).validated_data["reason"], by=key_of(request))
        return Response(_show(_find(request, owner, name, version)))
