"""The catalogue: what is sold, and each model's own page."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db.models import Q
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

from billing.models import Price
from inference.pipelines import pipeline as pipelines
from marketplace.interfaces import find_interface
from marketplace.latency import latency_of_model
from marketplace.models import CatalogueModel, ModelVersion, Organization
from marketplace.version_limits import batch_limits_of
from marketplace.web import snippets
from marketplace.web.access import find_organization
from marketplace.web.cards import render_card
from marketplace.web.plans import offers_of_model
from marketplace.web.playground import EXAMPLES, TRY_MODEL

# Pictures that a card may show. They are served for <img> alone, under a policy that runs nothing.
_PICTURES: Final = {"learning-curve.svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One model as the catalogue shows it: with its newest live version and that version's price."""

    model: CatalogueModel
    version: ModelVersion
    price: Price | None


def listed_models(organization: Organization | None) -> list[Entry]:
    """Return the models that can be called now: the public ones and the organization's own."""
    visible = Q(public=True) if organization is None else Q(public=True) | Q(owner=organization)
    models = CatalogueModel.objects.filter(visible).select_related("owner").prefetch_related("versions").order_by("owner__slug", "name")
    newest: list[tuple[CatalogueModel, ModelVersion]] = []
    for model in models:
        live = [version for version in model.versions.all() if version.state == ModelVersion.State.LIVE]
        if live:
            newest.append((model, max(live, key=lambda version: version.number)))
    prices = _current_prices((f"{model.path}@{version.number}" for model, version in newest), _currency_of(organization))
    return [Entry(model, version, prices.get(f"{model.path}@{version.number}")) for model, version in newest]


def _current_prices(skus: Iterable[str], currency: str) -> dict[str, Price]:
    rows = Price.objects.filter(sku__in=list(skus), currency=currency, effective_from__lte=timezone.now()).order_by("effective_from")
    return {price.sku: price for price in rows}  # The latest of each SKU comes last, and stays.


def find_price(sku: str) -> Price | None:
    """Return the price that holds for a SKU now in the site's own currency, or None."""
    return _current_prices([sku], settings.CURRENCY).get(sku)


def _currency_of(organization: Organization | None) -> str:
    return organization.account.currency if organization else settings.CURRENCY


def get_visible_model(request: HttpRequest, *, owner: str, name: str) -> CatalogueModel:
    """Return a model that this visitor may see.

    Raises:
        Http404: there is none of that name, or it is another organization's private one.
    """
    model = CatalogueModel.objects.select_related("owner").filter(owner__slug=owner, name=name).first()
    if model is None:
        raise Http404
    organization = find_organization(request)
    if not model.public and (organization is None or organization.pk != model.owner.pk):
        raise Http404
    return model


@require_safe
def list_models(request: HttpRequest) -> HttpResponse:
    """Show the catalogue."""
    return render(request, "models/list.html", {"entries": listed_models(find_organization(request))})


@require_safe
@ensure_csrf_cookie
def show_model(request: HttpRequest, owner: str, name: str) -> HttpResponse:
    """Show a model: what it does, how good it is, what it costs, and a playground that makes real calls."""
    model = get_visible_model(request, owner=owner, name=name)
    versions = list(model.versions.filter(ModelVersion.published()))
    live = next((version for version in versions if version.state == ModelVersion.State.LIVE), None)
    organization = find_organization(request)
    prices = _current_prices((f"{model.path}@{version.number}" for version in versions), _currency_of(organization))
    is_member = organization is not None
    interface = find_interface(live) if live else None
    pipeline = interface.pipeline if interface else None
    takes_text = interface is None or pipelines.takes_text(pipeline)
    takes_image = isinstance(pipeline, pipelines.ImagePipeline)
    example = None if takes_text or interface is None else interface.example()
    context: dict[str, Any] = {
        "model": model,
        "live": live,
        "versions": [(version, prices.get(f"{model.path}@{version.number}")) for version in versions],
        "price": prices.get(f"{model.path}@{live.number}") if live else None,
        "offers": offers_of_model(model, organization),
        "card": render_card(model.card_markdown, picture_url=_picture_url(model, live)),
        "facts": live.card if live else {},
        "latency": latency_of_model(model),
        "examples": EXAMPLES,
        "is_free": not is_member,
        "interface": interface,
        "batching": batch_limits_of(live) if live else None,
        "may_try": live is not None and (takes_text or takes_image) and (is_member or (owner, name) == TRY_MODEL),
        "takes_image": takes_image,
        "may_explain": isinstance(pipeline, pipelines.TextPipeline),
        "takes_text": takes_text,
        "snippets": snippets.all_snippets(model.path, key="fb_sk_live_…", input_data=example["input_data"] if example else None),
        "has_snippets": takes_text or example is not None,
    }
    return render(request, "models/model.html", context)


def _picture_url(model: CatalogueModel, version: ModelVersion | None) -> dict[str, str]:
    if version is None:
        return {}
    return {name: reverse("model_picture", args=[model.owner.slug, model.name, version.number, name]) for name in _PICTURES}


@require_safe
def show_picture(request: HttpRequest, owner: str, name: str, number: int, picture: str) -> HttpResponseBase:
    """Send a picture of a version's card. Files never change, so browsers keep them."""
    model = get_visible_model(request, owner=owner, name=name)
    version = model.versions.filter(number=number).filter(ModelVersion.published()).first()
    path = settings.ARTIFACTS_DIR / version.folder / picture if version and picture in _PICTURES else None
    if path is None or not path.is_file():
        raise Http404
    response = FileResponse(path.open("rb"), content_type=_PICTURES[picture])
    # An SVG is a document: opened by itself it must neither run nor load anything.
    response["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    response["Cache-Control"] = "private, max-age=86400, immutable"
    return response
