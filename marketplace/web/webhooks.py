"""The webhooks page: register an address, see its secret once, try it, and read what it answered."""

from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing.ids import parse_public_id, public_id
from marketplace.errors import WebhookInvalid, WebhookLimitReached
from marketplace.models import WebhookEndpoint
from marketplace.sealed import seal, unseal
from marketplace.web.access import MemberRequest, member_required
from marketplace.webhooks import EVENTS, endpoints
from marketplace.webhooks.addresses import MAX_URL

# Session entry of a sealed secret between the POST that made it and the page that shows it once.
_REVEALED: Final = "sealed_webhook"
_SHOWN: Final = 50


class EndpointForm(forms.Form):
    """A new endpoint."""

    url = forms.CharField(
        label=gettext_lazy("Address"), max_length=MAX_URL, widget=forms.URLInput(attrs={"placeholder": "https://example.com/farebox"})
    )
    description = forms.CharField(label=gettext_lazy("Description"), max_length=80, required=False)
    events = forms.MultipleChoiceField(
        label=gettext_lazy("Events"),
        choices=[(event, event) for event in EVENTS],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None chosen: all of them."),
    )


@require_safe
@member_required
def list_webhooks(request: MemberRequest) -> HttpResponse:
    """Show the organization's endpoints."""
    rows = [
        (endpoint, endpoint.deliveries.order_by("-created_at").first())
        for endpoint in request.organization.webhook_endpoints.order_by("-created_at")
    ]
    return render(request, "webhooks/list.html", {"rows": rows})


@require_http_methods(["GET", "HEAD", "POST"])
@member_required
def create_webhook(request: MemberRequest) -> HttpResponse:
    """Show the form of a new endpoint, and make it."""
    form = EndpointForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        chosen: list[str] = form.cleaned_data["events"] or ["*"]
        try:
            endpoint, secret = endpoints.register_endpoint(
                request.organization,
                url=form.cleaned_data["url"],
                events=chosen,
                description=form.cleaned_data["description"],
                by=request.user,
            )
        except WebhookInvalid:
            form.add_error(
                "url", _("Nobody can be told there: give an HTTPS address that everybody can reach, and that is not registered yet.")
            )
        except WebhookLimitReached as error:
            form.add_error(None, _("You already have %(limit)s endpoints. Delete one first.") % {"limit": error.limit})
        else:
            return _reveal(request, endpoint, secret)
    return render(request, "webhooks/new.html", {"form": form}, status=422 if form.errors else 200)


def _reveal(request: MemberRequest, endpoint: WebhookEndpoint, secret: str) -> HttpResponse:
    request.session[_REVEALED] = {"id": str(endpoint.pk), "sealed": seal(secret)}
    return redirect("webhook", webhook_id=public_id("whe", endpoint.pk))


def _get_endpoint(request: MemberRequest, webhook_id: str) -> WebhookEndpoint:
    uuid = parse_public_id("whe", webhook_id)
    found = request.organization.webhook_endpoints.select_related("organization")
    endpoint = found.filter(pk=uuid).first() if uuid else None
    if endpoint is None:
        raise Http404
    return endpoint


@require_safe
@member_required
def show_webhook(request: MemberRequest, webhook_id: str) -> HttpResponse:
    """Show one endpoint with its delivery log; right after it was made or rotated, and only then, with its secret."""
    endpoint = _get_endpoint(request, webhook_id)
    return render(request, "webhooks/endpoint.html", {**_context(endpoint), "secret": _take_secret(request, endpoint)})


@require_safe
@member_required
def show_deliveries(request: MemberRequest, webhook_id: str) -> HttpResponse:
    """Answer the page's polling."""
    return render(request, "webhooks/deliveries.html", _context(_get_endpoint(request, webhook_id)))


def _context(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {"endpoint": endpoint, "deliveries": endpoint.deliveries.select_related("message").order_by("-created_at")[:_SHOWN]}


def _take_secret(request: MemberRequest, endpoint: WebhookEndpoint) -> str:
    revealed = request.session.get(_REVEALED)
    if not revealed or revealed["id"] != str(endpoint.pk):
        return ""
    del request.session[_REVEALED]
    return unseal(revealed["sealed"])


@require_POST
@member_required
def rotate_webhook(request: MemberRequest, webhook_id: str) -> HttpResponse:
    """Give an endpoint a new secret; the old one signs, too, for a day."""
    endpoint = _get_endpoint(request, webhook_id)
    return _reveal(request, endpoint, endpoints.rotate_secret(endpoint, by=request.user))


@require_POST
@member_required
def test_webhook(request: MemberRequest, webhook_id: str) -> HttpResponse:
    """Send an endpoint a test event."""
    endpoint = _get_endpoint(request, webhook_id)
    try:
        endpoints.send_test(endpoint)
    except WebhookInvalid:
        messages.error(request, _("The endpoint is disabled. Enable it first."))
    else:
        messages.success(request, _("A test event is on its way; the log below shows what comes back."))
    return redirect("webhook", webhook_id=webhook_id)


@require_POST
@member_required
def switch_webhook(request: MemberRequest, webhook_id: str) -> HttpResponse:
    """Disable an endpoint, or enable it again."""
    endpoint = _get_endpoint(request, webhook_id)
    if endpoint.disabled_at is None:
        endpoints.disable_endpoint(endpoint, reason="Switched off.", by=request.user)
    else:
        endpoints.enable_endpoint(endpoint, by=request.user)
    return redirect("webhook", webhook_id=webhook_id)


@require_http_methods(["GET", "HEAD", "POST"])
@member_required
def delete_webhook(request: MemberRequest, webhook_id: str) -> HttpResponse:
    """Ask whether to delete an endpoint, and do it."""
    endpoint = _get_endpoint(request, webhook_id)
    if request.method != "POST":
        return render(request, "webhooks/delete.html", {"endpoint": endpoint})
    endpoints.delete_endpoint(endpoint, by=request.user)
    messages.success(request, _("The endpoint is deleted."))
    return redirect("webhooks")


@require_POST
@member_required
def resend_delivery(request: MemberRequest, webhook_id: str, delivery_id: str) -> HttpResponse:
    """Send a message again."""
    uuid = parse_public_id("whd", delivery_id)
    found = _get_endpoint(request, webhook_id).deliveries.select_related("endpoint")
    delivery = found.filter(pk=uuid).first() if uuid else None
    if delivery is None:
        raise Http404
    try:
        endpoints.resend(delivery)
    except WebhookInvalid:
        messages.error(request, _("The endpoint is disabled. Enable it first."))
    else:
        messages.success(request, _("The message is on its way again."))
    return redirect("webhook", webhook_id=webhook_id)
