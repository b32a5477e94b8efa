"""What the operator does: one form, one service, one line in the audit."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextInputWidget

from billing.errors import AmountMalformed, BillingError
from billing.money import NANOS_PER_CENT, parse_amount
from marketplace.admin.facts import FactAdmin
from marketplace.errors import MarketplaceError
from marketplace.models import User


class ConfirmForm(forms.Form):
    """Asks for nothing but the button."""


class ReasonForm(forms.Form):
    """Asks why: it stands in the audit beside the deed."""

    reason = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget(), help_text="Stands in the audit record.")


class AmountBackForm(ReasonForm):
    """Asks how much goes back, in whole cents, and why."""

    amount = forms.CharField(max_length=20, widget=UnfoldAdminDecimalFieldWidget())
    # Made with the page, so that sending it twice gives back once.
    reference = forms.UUIDField(widget=forms.HiddenInput())

    def clean_amount(self) -> int:
        """Return the amount in cents."""
        nanos = 0
        with suppress(AmountMalformed):
            nanos = int(parse_amount(self.cleaned_data["amount"]))
        if not nanos or nanos % NANOS_PER_CENT:
            message = "Send an amount of whole cents, such as 12.50."
            raise forms.ValidationError(message)
        return nanos // NANOS_PER_CENT


def run_deed(
    page: FactAdmin,
    request: HttpRequest,
    *,
    title: str,
    warning: str,
    form: forms.Form,
    do: Callable[[Mapping[str, Any]], object],
    target: Model,
) -> HttpResponse:
    """Show the deed's form; once it is sent and valid, do it and return to the row.

    Args:
        page: The table that the row is of.
        request: The operator's.
        title: What is done, as on the button.
        warning: What will happen, in a sentence.
        form: Bound where the request is a POST (see `bind`).
        do: The service, called with the form's cleaned fields.
        target: The row that it happens to.
    """
    back = reverse(f"admin:{page.opts.app_label}_{page.opts.model_name}_change", args=[target.pk])
    if request.method == "POST" and form.is_valid():
        try:
            do(form.cleaned_data)
        except (MarketplaceError, BillingError, ValueError) as error:
            form.add_error(None, str(getattr(error, "detail", "") or error))
        else:
            messages.success(request, f"Done: {title}.")
            return HttpResponseRedirect(back)
    context = {
        **page.admin_site.each_context(request),
        "title": title,
        "warning": warning,
        "form": form,
        "target": target,
        "back": back,
        "opts": page.opts,
    }
    return render(request, "admin/deed.html", context)


def bind(form: type[forms.Form], request: HttpRequest, *, initial: Mapping[str, Any] | None = None) -> forms.Form:
    """Return the form, filled with what was sent if anything was."""
    return form(request.POST if request.method == "POST" else None, initial=dict(initial or {}))


def find_target(page: FactAdmin, request: HttpRequest, object_id: str) -> Any:
    """Return the row a deed is for.

    Raises:
        Http404: there is none.
    """
    target = page.get_object(request, object_id)
    if target is None:
        raise Http404
    return target


def operator_of(request: HttpRequest) -> User:
    """Return the person at the dashboard: the admin lets in nobody else."""
    assert isinstance(request.user, User)
    return request.user
