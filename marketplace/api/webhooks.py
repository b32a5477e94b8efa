"""`/v1/webhooks`: where the organization is told of events, and what came of each telling."""

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.ids import parse_public_id
from marketplace.api.authentication import key_of, tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, read_body, read_query
from marketplace.api.fields import Constant, Flag, Form, Moment, PublicId, Text, View
from marketplace.api.lists import list_of, page_form, read_page, render_list
from marketplace.errors import NotFound, ScopeMissing
from marketplace.models import WebhookDelivery, WebhookEndpoint
from marketplace.webhooks import EVENTS, endpoints
from marketplace.webhooks.addresses import MAX_URL

TAG = "Webhooks"
_EVENTS_HELP = f"Types of events, or * for all: {', '.join(EVENTS)}. Empty: only what a request names the endpoint for."


class WebhookView(View):
    """An endpoint; its secret is shown when it is made or rotated, and never again."""

    object = Constant("webhook")
    id = PublicId("whe")
    url = serializers.CharField()
    description = serializers.CharField()
    events = serializers.ListField(child=serializers.CharField(), help_text=_EVENTS_HELP)
    enabled = serializers.SerializerMethodField()
    disabled_reason = serializers.CharField()
    old_secret_until = Moment(allow_null=True, help_text="Until when the secret before the last rotation signs, too.")
    created_at = Moment()

    def get_enabled(self, endpoint: WebhookEndpoint) -> bool:
        """Return whether it is told of events."""
        return endpoint.disabled_at is None


class FreshWebhookView(WebhookView):
    """An endpoint with the secret that it was just given."""

    secret = serializers.CharField(help_text="whsec_...: what signatures are checked with. Shown once.")


class WebhookForm(Form):
    """An endpoint to be made."""

    url = Text(max_length=MAX_URL, help_text="https://..., reachable by everybody.")
    description = Text(max_length=80, default="", allow_blank=True)
    events = serializers.ListField(child=Text(max_length=40), default=lambda: ["*"], max_length=50, help_text=_EVENTS_HELP)


class WebhookPatch(Form):
    """What can be changed of an endpoint."""

    url = Text(max_length=MAX_URL, required=False)
    description = Text(max_length=80, required=False, allow_blank=True)
    events = serializers.ListField(child=Text(max_length=40), required=False, max_length=50)
    enabled = Flag(required=False)


class DeliveryView(View):
    """One message to one endpoint."""

    object = Constant("webhook_delivery")
    id = PublicId("whd")
    message = PublicId("msg", source="message_id", help_text="The webhook-id header.")
    type = serializers.CharField(source="message.type")
    state = serializers.ChoiceField(choices=WebhookDelivery.State.choices)
    attempts = serializers.IntegerField()
    last_status = serializers.IntegerField(allow_null=True, help_text="HTTP status of the last attempt; null if there was no answer.")
    last_error = serializers.CharField()
    due_at = Moment(help_text="Of a pending one: when it is tried next.")
    created_at = Moment()
    ended_at = Moment(allow_null=True)


WebhooksQuery = page_form("whe", "WebhooksQuery")
DeliveriesQuery = page_form("whd", "DeliveriesQuery", state=serializers.ChoiceField(choices=WebhookDelivery.State.choices, required=False))


def _visible(request: Request) -> QuerySet[WebhookEndpoint]:
    """The organization's endpoints. They are told of live things, so a test key sees none.

    Raises:
        ScopeMissing: it is a test key.
    """
    if not key_of(request).livemode:
        message = "A test key has no webhooks: use a live key."
        raise ScopeMissing(message)
    return tenant_of(request).webhook_endpoints.select_related("organization")


def _find(request: Request, webhook_id: str) -> WebhookEndpoint:
    value = parse_public_id("whe", webhook_id)
    endpoint = _visible(request).filter(pk=value).first() if value else None
    if endpoint is None:
        raise NotFound
    return endpoint


def _fresh(endpoint: WebhookEndpoint, secret: str, *, status: int) -> Response:
    return Response({**WebhookView(endpoint).data, "secret": secret}, status=status)


class Webhooks(Endpoint):
    """All endpoints."""

    scope = {"GET": "webhooks:read", "POST": "webhooks:write"}

    @operation(
        "list_webhooks",
        summary="List webhook endpoints",
        tag=TAG,
        query=WebhooksQuery,
        answers=list_of(WebhookView, "WebhookList"),
        refusals=["request_malformed"],
    )
    def get(self, request: Request) -> Response:
        """List the organization's endpoints, the newest first."""
        query = read_query(request, WebhooksQuery).validated_data
        page = read_page(_visible(request), query, by="created_at")
        return Response(render_list(page, request, WebhookView(page.rows, many=True).data))

    @operation(
        "create_webhook",
        summary="Register a webhook endpoint",
        tag=TAG,
        takes=WebhookForm,
        answers=FreshWebhookView,
        status=201,
        refusals=["request_malformed", "webhook_invalid", "webhook_limit_reached", "body_too_large"],
    )
    def post(self, request: Request) -> Response:
        """Register an address to be told of events; its secret is in this answer and nowhere else."""
        _visible(request)
        fields: dict[str, Any] = read_body(request, WebhookForm).validated_data
        endpoint, secret = endpoints.register_endpoint(tenant_of(request), **fields, by=key_of(request))
        return _fresh(endpoint, secret, status=201)


class Webhook(Endpoint):
    """One endpoint."""

    scope = {"GET": "webhooks:read", "PATCH": "webhooks:write", "DELETE": "webhooks:write"}

    @operation("get_webhook", summary="Show a webhook endpoint", tag=TAG, answers=WebhookView, refusals=["not_found"])
    def get(self, request: Request, webhook_id: str) -> Response:
        """Show one endpoint."""
        return Response(WebhookView(_find(request, webhook_id)).data)

    @operation(
        "update_webhook",
        summary="Change a webhook endpoint",
        tag=TAG,
        takes=WebhookPatch,
        answers=WebhookView,
        refusals=["not_found", "request_malformed", "webhook_invalid", "body_too_large"],
    )
    def patch(self, request: Request, webhook_id: str) -> Response:
        """Change an endpoint's address, events or description, or switch it off and on."""
        endpoint = _find(request, webhook_id)
        fields: dict[str, Any] = read_body(request, WebhookPatch).validated_data
        enabled = fields.pop("enabled", None)
        with transaction.atomic():
            if fields:
                endpoints.change_endpoint(endpoint, **fields, by=key_of(request))
            if enabled is True:
                endpoints.enable_endpoint(endpoint, by=key_of(request))
            elif enabled is False:
                endpoints.disable_endpoint(endpoint, reason="Switched off.", by=key_of(request))
        return Response(WebhookView(endpoint).data)

    @operation("delete_webhook", summary="Delete a webhook endpoint", tag=TAG, answers=None, status=204, refusals=["not_found"])
    def delete(self, request: Request, webhook_id: str) -> Response:
        """Delete an endpoint with its delivery log."""
        endpoints.delete_endpoint(_find(request, webhook_id), by=key_of(request))
        return Response(status=204)


class WebhookRotation(Endpoint):
    """One endpoint's new secret."""

    scope = {"POST": "webhooks:write"}

    @operation("rotate_webhook", summary="Rotate a webhook's secret", tag=TAG, answers=FreshWebhookView, refusals=["not_found"])
    def post(self, request: Request, webhook_id: str) -> Response:
        """Give an endpoint a new secret; for 24 hours each message carries a signature by both."""
        endpoint = _find(request, webhook_id)
        secret = endpoints.rotate_secret(endpoint, by=key_of(request))
        return _fresh(endpoint, secret, status=200)


class WebhookTest(Endpoint):
    """One endpoint's trial."""

    scope = {"POST": "webhooks:write"}

    @operation(
        "test_webhook", summary="Send a test event", tag=TAG, answers=DeliveryView, status=201, refusals=["not_found", "webhook_invalid"]
    )
    def post(self, request: Request, webhook_id: str) -> Response:
        """Send `webhook.test` to an endpoint, whatever it subscribes to; its delivery tells what came of it."""
        message = endpoints.send_test(_find(request, webhook_id))
        return Response(DeliveryView(message.deliveries.select_related("message").get()).data, status=201)


class WebhookDeliveries(Endpoint):
    """One endpoint's delivery log."""

    scope = {"GET": "webhooks:read"}

    @operation(
        "list_webhook_deliveries",
        summary="List deliveries",
        tag=TAG,
        query=DeliveriesQuery,
        answers=list_of(DeliveryView, "WebhookDeliveryList"),
        refusals=["not_found", "request_malformed"],
    )
    def get(self, request: Request, webhook_id: str) -> Response:
        """List what was sent to an endpoint, the newest first, with what it answered last."""
        rows = _find(request, webhook_id).deliveries.select_related("message")
        query = read_query(request, DeliveriesQuery).validated_data
        if state := query.get("state"):
            rows = rows.filter(state=state)
        page = read_page(rows, query, by="created_at")
        return Response(render_list(page, request, DeliveryView(page.rows, many=True).data))


class WebhookResend(Endpoint):
    """One message again."""

    scope = {"POST": "webhooks:write"}

    @operation(
        "resend_webhook_delivery", summary="Send a message again", tag=TAG, answers=DeliveryView, refusals=["not_found", "webhook_invalid"]
    )
    def post(self, request: Request, webhook_id: str, delivery_id: str) -> Response:
        """Send a message again, with the same id and body, from the first attempt on."""
        value = parse_public_id("whd", delivery_id)
        found = _find(request, webhook_id).deliveries.select_related("message", "endpoint")
        delivery = found.filter(pk=value).first() if value else None
        if delivery is None:
            raise NotFound
        endpoints.resend(delivery)
        delivery.refresh_from_db()
        return Response(DeliveryView(delivery).data)
