"""`/v1/models`: what can be called, what it takes, costs, and how fast it answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.db.models import Prefetch, Q, QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.models import Price
from inference.signature import TensorSpec
from marketplace import listing
from marketplace.api.authentication import key_of, tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, read_body, read_query
from marketplace.api.fields import Constant, Flag, Form, Moment, PublicId, Text, View
from marketplace.api.gateway_schema import model_document
from marketplace.api.lists import list_of, page_form, read_page, render_list
from marketplace.api.prices import PriceView
from marketplace.api.versions import TAG as PUBLISHING
from marketplace.api.versions import Int8View, check_publisher, find_own_model
from marketplace.errors import ModelNotFound
from marketplace.gateway.callers import caller_of
from marketplace.interfaces import Interface, find_interface, has_files
from marketplace.latency import Latency, latency_of_model
from marketplace.models import CatalogueModel, ModelVersion
from marketplace.models.catalogue import model_name

TAG = "Models"


class VersionView(View):
    """One version of a model."""

    object = Constant("model_version")
    id = PublicId("ver")
    number = serializers.IntegerField()
    state = serializers.ChoiceField(choices=["live", "retired"])
    digest = serializers.CharField(help_text="SHA-256 of the artifact, hexadecimal.")
    size_bytes = serializers.IntegerField()
    int8 = Int8View(allow_null=True, help_text="Served instead on a CPU, where the publish gate measured that it agrees.")
    traffic_weight = serializers.IntegerField(help_text="Its share of the calls that name no version.")
    published_at = Moment(allow_null=True)
    callable = serializers.BooleanField()
    prices = PriceView(many=True, help_text="Past, present and announced, by the time each takes effect.")
    card = serializers.DictField(help_text="Facts: accuracy, data, licence.")


class ModelView(View):
    """A model of the catalogue."""

    object = Constant("model")
    id = PublicId("mdl")
    path = serializers.CharField(help_text="owner/name, as it is called by.")
    title = serializers.CharField()
    summary = serializers.CharField()
    task = serializers.CharField()
    public = serializers.BooleanField()
    created_at = Moment()
    callable = serializers.BooleanField(help_text="Whether a call that names no version is answered now.")
    version = serializers.IntegerField(allow_null=True, help_text="The newest version that takes such calls.")
    price = PriceView(allow_null=True, help_text="What that version's units cost now.")


class LatencyView(View):
    """Door to door, in milliseconds, over the newest 1,000 answers of 24 hours of all callers."""

    calls = serializers.IntegerField()
    p50_ms = serializers.FloatField(allow_null=True)
    p99_ms = serializers.FloatField(allow_null=True)


class TensorView(View):
    """One input or output of a version's graph."""

    name = serializers.CharField()
    datatype = serializers.CharField(help_text="As the Open Inference Protocol names it: FP32, INT64, BYTES (text).")
    shape = serializers.ListField(
        child=serializers.IntegerField(), allow_null=True, help_text="-1 is any size; null where the graph does not say."
    )
    optional = serializers.BooleanField()
    kind = serializers.CharField(help_text="tensor; or sequence, map or optional, which are answered as JSON.")


class SignatureView(View):
    """What the graph of the version that a plain call gets takes and gives. Shapes of outputs are its word, not checked."""

    inputs = TensorView(many=True)
    outputs = TensorView(many=True)


class ModelDetailView(ModelView):
    """A model with its card, schema and versions."""

    card_markdown = serializers.CharField()
    input_schema = serializers.DictField(allow_null=True, help_text="JSON Schema of a predict body.")
    example = serializers.DictField(allow_null=True)
    signature = SignatureView(allow_null=True)
    versions = VersionView(many=True)
    latency = LatencyView()


ModelsQuery = page_form("mdl", "ModelsQuery", task=serializers.CharField(required=False, max_length=40))


def _visible(request: Request) -> QuerySet[CatalogueModel]:
    """What the caller may call: public models and its own, and of them those on the key's list."""
    key = key_of(request)
    rows = CatalogueModel.objects.filter(Q(public=True) | Q(owner=tenant_of(request)))
    if key.allowed_models:
        paths = [path.split("/", 1) for path in key.allowed_models]
        allowed = [Q(owner__slug=owner, name=name) for owner, name in paths]
        rows = rows.filter(allowed[0] if len(allowed) == 1 else Q(*allowed, _connector=Q.OR))
    # What was never published is its maker's business.
    versions = ModelVersion.objects.filter(ModelVersion.published()).order_by("-number")
    return rows.select_related("owner").prefetch_related(Prefetch("versions", versions, to_attr="shown_versions"))


def _find(request: Request, owner: str, name: str) -> CatalogueModel:
    model = _visible(request).filter(owner__slug=owner, name=name).first()
    if model is None:
        raise ModelNotFound
    return model


def _show_all(models: Sequence[CatalogueModel], *, currency: str) -> list[dict[str, Any]]:
    """Return models as they are shown, their prices, of one currency, read by one query for all."""
    skus = [_sku(version, model) for model in models for version in _versions(model)]
    prices: dict[str, list[Price]] = {}
    for price in Price.objects.filter(sku__in=skus, currency=currency).order_by("effective_from"):
        prices.setdefault(price.sku, []).append(price)
    return [_show(model, prices) for model in models]


def _sku(version: ModelVersion, model: CatalogueModel) -> str:
    return f"{model.path}@{version.number}"  # Not `version.sku`, which would read the model again.


def _show(model: CatalogueModel, prices: Mapping[str, Sequence[Price]]) -> dict[str, Any]:
    """Return a model's facts, with those of the version that a plain call gets."""
    versions = [_facts(version, prices.get(_sku(version, model), ())) for version in _versions(model)]
    open_versions = [facts for facts in versions if facts["callable"] and facts["traffic_weight"]]
    newest = open_versions[0] if open_versions else None
    return {
        **{name: getattr(model, name) for name in ("id", "path", "title", "summary", "task", "public", "created_at", "card_markdown")},
        "callable": newest is not None,
        "version": newest["number"] if newest else None,
        "price": newest["price"] if newest else None,
        "versions": versions,
    }


def _versions(model: CatalogueModel) -> Sequence[ModelVersion]:
    shown: Sequence[ModelVersion] = model.shown_versions  # type: ignore[attr-defined]  # `_visible` prefetched it.
    return shown


def _facts(version: ModelVersion, prices: Sequence[Price]) -> dict[str, Any]:
    now = timezone.now()
    current = [price for price in prices if price.effective_from <= now]
    names = ("id", "number", "state", "digest", "size_bytes", "traffic_weight", "published_at", "card")
    return {
        **{name: getattr(version, name) for name in names},
        "int8": version if version.has_int8 else None,
        "price": current[-1] if current else None,
        "prices": prices,
        "callable": version.state == ModelVersion.State.LIVE and bool(current) and has_files(version),
    }


def _open_interface(model: CatalogueModel, shown: Mapping[str, Any]) -> Interface | None:
    for version in _versions(model):
        if version.number == shown["version"]:
            return find_interface(version)
    return None


class ModelForm(Form):
    """A model to be made; versions are uploaded afterwards."""

    name = serializers.RegexField(model_name.regex, max_length=40, help_text="Lowercase letters, digits and single hyphens.")
    title = Text(max_length=80)
    summary = Text(max_length=200)
    task = Text(max_length=40, help_text="As model hubs name tasks: text-classification.")
    card_markdown = Text(max_length=50_000, default="", allow_blank=True)
    public = Flag(default=False, help_text="Whether all organizations may call it.")


class ModelPatch(Form):
    """What can be changed of a model."""

    title = Text(max_length=80, required=False)
    summary = Text(max_length=200, required=False)
    task = Text(max_length=40, required=False)
    card_markdown = Text(max_length=50_000, required=False, allow_blank=True)
    public = Flag(required=False)


class Models(Endpoint):
    """The catalogue."""

    scope = {"GET": "models:read", "POST": "models:write"}

    @operation(
        "list_models",
        summary="List models",
        tag=TAG,
        query=ModelsQuery,
        answers=list_of(ModelView, "ModelList"),
        refusals=["request_malformed"],
    )
    def get(self, request: Request) -> Response:
        """List the models that this key may call: public ones and the organization's own."""
        query = read_query(request, ModelsQuery).validated_data
        rows = _visible(request)
        if task := query.get("task"):
            rows = rows.filter(task=task)
        page = read_page(rows, query, by="created_at")
        return Response(
            render_list(page, request, ModelView(_show_all(page.rows, currency=tenant_of(request).account.currency), many=True).data)
        )

    @operation(
        "create_model",
        summary="Make a model",
        tag=PUBLISHING,
        takes=ModelForm,
        answers=ModelView,
        status=201,
        refusals=["request_malformed", "model_name_taken", "body_too_large"],
    )
    def post(self, request: Request) -> Response:
        """Make an entry of the catalogue. Nobody can call it until one of its versions is live."""
        owner, fields = tenant_of(request), read_body(request, ModelForm).validated_data
        check_publisher(request)
        caller_of(key_of(request)).check_model(f"{owner.slug}/{fields['name']}")
        listing.create_model(owner=owner, by=key_of(request), **fields)
        [shown] = _show_all([_find(request, owner.slug, fields["name"])], currency=owner.account.currency)
        return Response(ModelView(shown).data, status=201)


class Model(Endpoint):
    """One model."""

    scope = {"GET": "models:read", "PATCH": "models:write"}

    @operation("get_model", summary="Show a model", tag=TAG, answers=ModelDetailView, refusals=["model_not_found"])
    def get(self, request: Request, owner: str, name: str) -> Response:
        """Show a model's card, input schema, prices, versions, and measured latency."""
        model = _find(request, owner, name)
        [shown] = _show_all([model], currency=tenant_of(request).account.currency)
        interface = _open_interface(model, shown)
        fields = {
            **shown,
            "input_schema": interface.schema() if interface else None,
            "example": interface.example() if interface else None,
            "signature": _signature_fields(interface) if interface else None,
            "latency": _latency_fields(latency_of_model(model)),
        }
        return Response(ModelDetailView(fields).data)

    @operation(
        "update_model",
        summary="Change what is said of a model",
        tag=PUBLISHING,
        takes=ModelPatch,
        answers=ModelView,
        refusals=["model_not_found", "request_malformed", "body_too_large"],
    )
    def patch(self, request: Request, owner: str, name: str) -> Response:
        """Change a model's title, summary, task, card, or who may call it. Only for its owner."""
        model = find_own_model(request, owner, name)
        check_publisher(request)
        fields: dict[str, Any] = read_body(request, ModelPatch).validated_data
        with transaction.atomic():
            listing.describe_model(model, facts=fields, by=key_of(request))
            if fields.get("public", model.public) != model.public:
                listing.set_visibility(model, public=fields["public"], by=key_of(request))
        [shown] = _show_all([_find(request, owner, name)], currency=tenant_of(request).account.currency)
        return Response(ModelView(shown).data)


def _signature_fields(interface: Interface) -> dict[str, Any]:
    signature = interface.signature
    sides = {"inputs": signature.inputs, "outputs": signature.outputs}
    return {side: [_tensor_fields(spec) for spec in specs] for side, specs in sides.items()}


def _tensor_fields(spec: TensorSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "datatype": spec.datatype,
        "shape": None if spec.any_rank else list(spec.shape),
        "optional": spec.optional,
        "kind": spec.kind,
    }


def _latency_fields(latency: Latency | None) -> dict[str, Any]:
    if latency is None:
        return {"calls": 0, "p50_ms": None, "p99_ms": None}
    return {"calls": latency.calls, "p50_ms": latency.p50_us / 1000, "p99_ms": latency.p99_us / 1000}


class ModelOpenApi(Endpoint):
    """One model's own OpenAPI document."""

    scope = {"GET": "models:read"}

    @operation(
        "get_model_openapi", summary="Show a model's OpenAPI document", tag=TAG, answers=OpenApiTypes.OBJECT, refusals=["model_not_found"]
    )
    def get(self, request: Request, owner: str, name: str) -> Response:
        """Show OpenAPI 3.1 of this model's predict and estimate, with its own input schema."""
        model = _find(request, owner, name)
        [shown] = _show_all([model], currency=tenant_of(request).account.currency)
        interface = _open_interface(model, shown)
        if interface is None:
            raise ModelNotFound
        return Response(model_document(model, interface))
