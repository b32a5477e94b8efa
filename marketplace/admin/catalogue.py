"""Models and versions: what is sold, at which weight, until it is retired."""

from dataclasses import asdict
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from billing.models import Price, SkuShare
from billing.money import CURRENCIES
from billing.prices import price_history, prices_by_currency, shape_of_price
from marketplace.admin.deeds import ConfirmForm, ReasonForm, bind, find_target, operator_of, run_deed
from marketplace.admin.facts import FactAdmin
from marketplace.amounts import price_words
from marketplace.listing import set_visibility
from marketplace.models import CatalogueModel, ModelVersion
from marketplace.price_forms import PriceForm, fields_of
from marketplace.provider_shares import set_model_fee
from marketplace.publishing import retire_version, set_traffic_weight, set_version_price
from marketplace.version_limits import VersionLimits, limits_of, set_version_limits


class WeightForm(forms.Form):
    """A share of the traffic."""

    weight = forms.IntegerField(min_value=0, max_value=1_000_000, widget=UnfoldAdminIntegerFieldWidget())


class FeeForm(ReasonForm):
    """What the site keeps, and why."""

    fee_basis_points = forms.IntegerField(
        min_value=0, max_value=10_000, widget=UnfoldAdminIntegerFieldWidget(), help_text="Hundredths of a percent: 1500 keeps 15 %."
    )
    field_order = ("fee_basis_points", "reason")


class OperatorPriceForm(PriceForm):
    """A price in one currency, from a moment on."""

    currency = forms.ChoiceField(choices=[(name, name.upper()) for name in CURRENCIES], widget=UnfoldAdminSelectWidget())
    effective_from = forms.DateTimeField(
        required=False, widget=UnfoldAdminTextInputWidget(), help_text="UTC, such as 2027-01-01 00:00; empty means now."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            if name == "scheme":
                field.widget = UnfoldAdminSelectWidget(choices=self.fields["scheme"].choices)  # type: ignore[attr-defined]  # It is a ChoiceField.
            elif name == "tiers":
                field.widget = UnfoldAdminTextareaWidget()
            elif name != "currency":
                field.widget = UnfoldAdminTextInputWidget()


class LimitsForm(forms.Form):
    """A version's own limits."""

    max_batch_rows = forms.IntegerField(
        required=False, min_value=1, max_value=256, widget=UnfoldAdminIntegerFieldWidget(), help_text="Rows of a batch; empty: 32."
    )
    max_batch_tokens = forms.IntegerField(
        required=False, min_value=1, max_value=10**9, widget=UnfoldAdminIntegerFieldWidget(), help_text="Rows x longest; empty: 4096."
    )
    max_queue_delay_us = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=1_000_000,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Microseconds that a row waits for others though a worker is free; empty: 0.",
    )
    max_queue_rows = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=10**6,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Empty: as many as the site has room for.",
    )
    max_body_bytes = forms.IntegerField(
        required=False,
        min_value=1024,
        max_value=64 * 2**20,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Empty: MAX_BODY_BYTES, or MAX_TENSOR_BODY_BYTES without a pipeline.",
    )
    allow_nonfinite = forms.BooleanField(
        required=False, help_text="Callers may send NaN and infinities.", widget=UnfoldBooleanSwitchWidget()
    )


class VersionInline(TabularInline):
    """A model's versions."""

    model = ModelVersion
    extra = 0
    can_delete = False
    show_change_link = True
    fields = ("number", "state", "traffic_weight", "published_at")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 (Django's signature)
        """No: versions are published."""
        return False


@admin.register(CatalogueModel)
class CatalogueModelAdmin(FactAdmin):
    """All models."""

    list_display = ("path", "title", "task", "public", "created_at")
    list_filter = ("public", "task")
    list_select_related = ("owner",)
    search_fields = ("name", "title", "owner__slug")
    fields = ("path", "title", "summary", "task", "public", "created_at", "card_markdown")
    readonly_fields = ("path",)
    inlines = (VersionInline,)
    actions_detail = ("change_visibility", "set_fee")

    @action(description="Show or hide", url_path="visibility", permissions=["deed"], icon="visibility")
    def change_visibility(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show a hidden model to all, or hide a public one."""
        model: CatalogueModel = find_target(self, request, object_id)
        is_public = not model.public

        def do(_: Any) -> None:
            set_visibility(model, public=is_public, by=operator_of(request))

        title = f"Show {model} to everybody" if is_public else f"Hide {model}"
        warning = "Every organization may call it." if is_public else "Others than its owner get 404 within a second."
        return run_deed(self, request, title=title, warning=warning, form=bind(ConfirmForm, request), do=do, target=model)

    @action(description="Set fee", url_path="fee", permissions=["deed"], icon="percent")
    def set_fee(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Set what the site keeps of the model's charges."""
        model: CatalogueModel = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            set_model_fee(model, fee_basis_points=fields["fee_basis_points"], reason=fields["reason"], by=operator_of(request))

        share = SkuShare.objects.filter(subject=model.path).order_by("-effective_from").first()
        now = (
            f"It is {share.fee_basis_points} basis points from {share.effective_from:%Y-%m-%d %H:%M} UTC on."
            if share
            else "All is the site’s."
        )
        warning = f"{now} A new fee holds from the next hour on; its provider is told by nobody but you."
        form = bind(FeeForm, request, initial={"fee_basis_points": share.fee_basis_points if share else None})
        return run_deed(self, request, title=f"Set the fee of {model}", warning=warning, form=form, do=do, target=model)


@admin.register(ModelVersion)
class ModelVersionAdmin(FactAdmin):
    """All versions. Their files never change; their digest is what every load is checked against."""

    list_display = ("shown_sku", "state", "traffic_weight", "price", "published_at")
    list_filter = ("state",)
    list_select_related = ("model__owner",)
    search_fields = ("model__name", "model__owner__slug", "digest")
    fields = (
        "shown_sku",
        "state",
        "traffic_weight",
        "prices",
        "folder",
        "artifact",
        "digest",
        "size_bytes",
        "int8_digest",
        "int8_tolerance",
        "attempts",
        "report",
        "max_batch_rows",
        "max_batch_tokens",
        "max_queue_delay_us",
        "max_queue_rows",
        "max_body_bytes",
        "allow_nonfinite",
        "card",
        "published_at",
        "created_at",
    )
    readonly_fields = ("shown_sku", "prices")
    actions_detail = ("weigh", "set_price", "set_limits", "retire")

    @display(description="SKU")
    def shown_sku(self, version: ModelVersion) -> str:
        """What bills call it."""
        return version.sku

    @display(description="Price")
    def price(self, version: ModelVersion) -> str:
        """The newest price."""
        history = price_history(version.sku, currency=settings.CURRENCY)
        return price_words(history[-1][1]) if history else "none"

    @display(description="Prices")
    def prices(self, version: ModelVersion) -> str:
        """All prices, past and to come."""
        every = [one for prices in prices_by_currency(version.sku).values() for one in prices]
        shown = [f"{price_words(terms)} from {at:%Y-%m-%d %H:%M} UTC" for at, terms in every]
        return "; ".join(shown) or "none"

    @action(description="Set traffic weight", url_path="weight", permissions=["deed"], icon="balance")
    def weigh(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Change the share of calls that name no version."""
        version: ModelVersion = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            set_traffic_weight(version, weight=fields["weight"], by=operator_of(request))

        warning = "Relative to the model's other live versions; 0 is called only by number."
        form = bind(WeightForm, request, initial={"weight": version.traffic_weight})
        return run_deed(self, request, title=f"Set traffic weight of {version}", warning=warning, form=form, do=do, target=version)

    @action(description="Set price", url_path="price", permissions=["deed"], icon="sell")
    def set_price(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Add a price."""
        version: ModelVersion = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            set_version_price(
                version,
                shape=fields["shape"],
                currency=fields["currency"],
                effective_from=fields["effective_from"],
                by=operator_of(request),
            )

        warning = (
            f"Prices are only added: calls admitted before it takes effect keep theirs. One that can be dearer than the price "
            f"before it must be announced {settings.PRICE_NOTICE_DAYS} days ahead."
        )
        newest = Price.objects.filter(sku=version.sku, currency=settings.CURRENCY).order_by("-effective_from").first()
        initial = {"currency": settings.CURRENCY, **(fields_of(shape_of_price(newest)) if newest else {})}
        form = bind(OperatorPriceForm, request, initial=initial)
        return run_deed(self, request, title=f"Set price of {version}", warning=warning, form=form, do=do, target=version)

    @action(description="Set limits", url_path="limits", permissions=["deed"], icon="tune")
    def set_limits(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Change how its calls wait and run together."""
        version: ModelVersion = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            set_version_limits(version, VersionLimits(**fields), by=operator_of(request))

        warning = "Holds for calls from a second on. Empty fields are the site's defaults."
        form = bind(LimitsForm, request, initial=asdict(limits_of(version)))
        return run_deed(self, request, title=f"Set limits of {version}", warning=warning, form=form, do=do, target=version)

    @action(description="Retire", url_path="retire", permissions=["deed"], icon="inventory_2")
    def retire(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Stop selling it."""
        version: ModelVersion = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            retire_version(version, reason=fields["reason"], by=operator_of(request))

        warning = "It answers 404 within a second, and stays on the bills. It cannot be brought back."
        return run_deed(self, request, title=f"Retire {version}", warning=warning, form=bind(ReasonForm, request), do=do, target=version)
