"""The provider's pages: publish a model, see what the gate found, go live, set share and price, retire."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing.errors import BillingError
from billing.models import Price
from marketplace import listing, publishing
from marketplace.errors import MarketplaceError
from marketplace.models import CatalogueModel, ModelVersion
from marketplace.problems import problem_of
from marketplace.web.access import MemberRequest, member_required
from marketplace.web.publish_forms import DescriptionForm, NewModelForm, PriceForm, RetireForm, ShareForm, VersionForm

_WAITING = (ModelVersion.State.DRAFT, ModelVersion.State.VALIDATING)


def _get_model(request: MemberRequest, name: str) -> CatalogueModel:
    """Return one of the organization's own models; names of others' lead nowhere."""
    model = request.organization.models.select_related("owner").filter(name=name).first()
    if model is None:
        raise Http404
    return model


def _get_version(request: MemberRequest, name: str, number: int) -> ModelVersion:
    version = _get_model(request, name).versions.select_related("model__owner").filter(number=number).first()
    if version is None:
        raise Http404
    return version


def _say(error: Exception) -> str:
    """Return what was refused, in the reader's language, with the detail as programs get it."""
    detail = str(getattr(error, "detail", "") or error)
    return f"{_(problem_of(error).title)}: {detail}"


@require_safe
@member_required
def list_own(request: MemberRequest) -> HttpResponse:
    """Show the organization's models with their versions."""
    models = request.organization.models.prefetch_related("versions").order_by("name")
    return render(request, "publish/list.html", {"models": models})


@require_http_methods(["GET", "HEAD", "POST"])
@member_required
def create_model(request: MemberRequest) -> HttpResponse:
    """Show the form of a new model, and make it with its first version: both or neither."""
    form = NewModelForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        facts = {name: form.cleaned_data[name] for name in ("name", "title", "summary", "task", "card_markdown", "public")}
        try:
            version = publishing.submit_model(owner=request.organization, facts=facts, **_submission(request, form))
        except (MarketplaceError, BillingError) as error:
            form.add_error(None, _say(error))
        else:
            return redirect("publish_version", name=facts["name"], number=version.number)
    return render(request, "publish/new.html", {"form": form}, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@member_required
def create_version(request: MemberRequest, name: str) -> HttpResponse:
    """Show the form of a model's next version, and take it in."""
    model = _get_model(request, name)
    form = VersionForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            version = publishing.submit_version(model=model, **_submission(request, form))
        except (MarketplaceError, BillingError) as error:
            form.add_error(None, _say(error))
        else:
            return redirect("publish_version", name=model.name, number=version.number)
    return render(request, "publish/new_version.html", {"form": form, "model": model}, status=422 if form.errors else 200)


def _submission(request: MemberRequest, form: VersionForm) -> dict[str, Any]:
    """Return what a form's version is sent with, as the rules want it."""
    fields = form.cleaned_data
    return {
        "files": form.version_files(),
        "unit": fields["unit"],
        "unit_nanos": fields["unit_price"],
        "int8_tolerance": fields["int8_tolerance"],
        "by": request.user,
    }


@require_http_methods(["GET", "HEAD", "POST"])
@member_required
def show_own(request: MemberRequest, name: str) -> HttpResponse:
    """Show one of the organization's models and its versions; change what is said of it."""
    model = _get_model(request, name)
    form = DescriptionForm(request.POST) if request.method == "POST" else DescriptionForm.of(model)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            listing.describe_model(model, facts=form.cleaned_data, by=request.user)
            if form.cleaned_data["public"] != model.public:
                listing.set_visibility(model, public=form.cleaned_data["public"], by=request.user)
        messages.success(request, _("The description is changed."))
        return redirect("publish_model", name=model.name)
    versions = list(model.versions.all())
    total = sum(version.traffic_weight for version in versions if version.state == ModelVersion.State.LIVE)
    rows = [(version, _share(version, total)) for version in versions]
    return render(request, "publish/model.html", {"form": form, "model": model, "rows": rows}, status=422 if form.errors else 200)


def _share(version: ModelVersion, total: int) -> float | None:
    """Return a live version's share of the calls that name none, as a fraction."""
    return version.traffic_weight / total if version.state == ModelVersion.State.LIVE and total else None


@require_safe
@member_required
def show_version(request: MemberRequest, name: str, number: int) -> HttpResponse:
    """Show a version: its state, the report, and what can be done with it."""
    return _render_version(request, _get_version(request, name, number))


@require_safe
@member_required
def show_state(request: MemberRequest, name: str, number: int) -> HttpResponse:
    """Tell the page of a version that waits how it is; once it was examined, have the page load anew."""
    version = _get_version(request, name, number)
    response = render(request, "publish/state.html", {"version": version})
    if version.state not in _WAITING:
        response["HX-Refresh"] = "true"
    return response


def _render_version(request: MemberRequest, version: ModelVersion, *, status: int = 200, **forms_: forms.Form) -> HttpResponse:
    context: dict[str, Any] = {
        "version": version,
        "is_waiting": version.state in _WAITING,
        "prices": Price.objects.filter(sku=version.sku).order_by("effective_from"),
        "share_form": ShareForm(initial={"share_percent": _percent(version)}),
        "price_form": PriceForm(),
        "retire_form": RetireForm(),
        **forms_,
    }
    return render(request, "publish/version.html", context, status=status)


def _percent(version: ModelVersion) -> int:
    """Return what the share's field says at first: what a live version has, and all for one that is ready."""
    if version.state != ModelVersion.State.LIVE:
        return 100
    live = version.model.versions.filter(state=ModelVersion.State.LIVE)
    share = _share(version, sum(live.values_list("traffic_weight", flat=True)))
    return round(100 * share) if share else 0


def _do(
    request: MemberRequest, version: ModelVersion, *, form: forms.Form, shown_as: str, do: Callable[[Any], object], done: str
) -> HttpResponse:
    """Do one thing to a version by one rule, and show it again; what is refused is said at its form."""
    if form.is_valid():
        try:
            do(form.cleaned_data)
        except (MarketplaceError, BillingError) as error:
            form.add_error(None, _say(error))
        else:
            messages.success(request, done)
            return redirect("publish_version", name=version.model.name, number=version.number)
    return _render_version(request, version, status=422, **{shown_as: form})


@require_POST
@member_required
def go_live(request: MemberRequest, name: str, number: int) -> HttpResponse:
    """Let a version that passed be called; one that is live gets another share."""
    version = _get_version(request, name, number)
    is_live = version.state == ModelVersion.State.LIVE
    rule = publishing.set_share if is_live else publishing.go_live
    return _do(
        request,
        version,
        form=ShareForm(request.POST),
        shown_as="share_form",
        do=lambda fields: rule(version, share_percent=fields["share_percent"], by=request.user),
        done=_("The share is set.") if is_live else _("It is live within a second."),
    )


@require_POST
@member_required
def change_price(request: MemberRequest, name: str, number: int) -> HttpResponse:
    """Add a price."""
    version = _get_version(request, name, number)
    return _do(
        request,
        version,
        form=PriceForm(request.POST),
        shown_as="price_form",
        do=lambda fields: publishing.set_version_price(
            version, unit_nanos=fields["unit_price"], effective_from=fields["effective_from"], by=request.user
        ),
        done=_("The price is set."),
    )


@require_POST
@member_required
def retire(request: MemberRequest, name: str, number: int) -> HttpResponse:
    """Stop selling a version."""
    version = _get_version(request, name, number)
    return _do(
        request,
        version,
        form=RetireForm(request.POST),
        shown_as="retire_form",
        do=lambda fields: publishing.retire_version(version, reason=fields["reason"], by=request.user),
        done=_("It is retired: it answers 404 within a second."),
    )
