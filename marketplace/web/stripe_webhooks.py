"""The door for the payment provider's webhooks: kept, answered 200, applied elsewhere."""

import logging
from contextlib import suppress
from typing import Final

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from kombu.exceptions import OperationalError as BrokerUnavailable

from billing import tasks, webhooks
from billing.errors import PaymentsOff, WebhookForged

log = logging.getLogger(__name__)

# Stripe's events are a few kilobytes; an invoice of many lines has been seen at 100.
_LARGEST_BYTES: Final = 512 * 1024


@csrf_exempt  # Signed by Stripe, and without our cookies.
@require_POST
def receive(request: HttpRequest) -> HttpResponse:
    """Keep a signed webhook. 200 only once it is on disk: until then Stripe sends it again."""
    body = request.read(_LARGEST_BYTES + 1)
    if len(body) > _LARGEST_BYTES:
        return JsonResponse({"error": "The body is too large."}, status=413)
    try:
        kept = webhooks.receive(body, request.headers.get("Stripe-Signature", ""))
    except (WebhookForged, PaymentsOff):
        return JsonResponse({"error": "The signature is wrong or too old."}, status=400)
    except OperationalError:
        log.exception("A webhook could not be kept; it is sent again.")
        return JsonResponse({"error": "Try again."}, status=503)
    if kept is not None:
        # A nudge: without it, the sweep applies the event some seconds later.
        with suppress(BrokerUnavailable, OSError):
            tasks.apply_event.delay(kept)
    return JsonResponse({"received": True})
