"""Webhooks of the fake: signed as Stripe signs them, sent over HTTP, tried again until they are taken."""

import asyncio
import contextlib
import hashlib
import hmac
import http.client
import json
import time
from typing import Final
from urllib.parse import urlsplit

from billing.providers.fake import checkout
from billing.providers.fake.store import shown
from billing.providers.fake.world import World

_PAUSE_S: Final = 0.1
_TIMEOUT_S: Final = 10
# Seconds until the next attempt. Stripe goes on for three days; who tests waits for minutes at most.
_WAITS: Final = (1, 2, 5, 15, 60, 300, 1800)


def sign(body: bytes, secret: str, *, at: int | None = None) -> str:
    """Return the Stripe-Signature header of a body.

    Source: docs.stripe.com/webhooks/signature ("v1" scheme: HMAC-SHA-256 of `timestamp.body`).
    """
    moment = int(time.time()) if at is None else at
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


async def deliver_forever(world: World) -> None:
    """Settle bank debits and deliver events as they fall due."""
    while True:
        with contextlib.suppress(OSError):
            checkout.settle_due(world, now=time.time())
            await deliver_due(world)
        await asyncio.sleep(_PAUSE_S)


async def deliver_due(world: World) -> None:
    """Deliver what is due now; what is not taken is tried again later."""
    due = world.store.due_deliveries(time.time())
    if world.faults.shuffled:
        world.faults.random.shuffle(due)
    for number, event_id, attempts in due:
        event = world.store.find("event", event_id) or world.store.find("v2.core.event", event_id)
        is_taken = event is None or await asyncio.to_thread(_post, world, json.dumps(shown(event)).encode())
        if is_taken or attempts >= len(_WAITS):
            world.store.delivered(number)
        else:
            world.store.postpone(number, due=time.time() + _WAITS[attempts])


def _post(world: World, body: bytes) -> bool:
    parts = urlsplit(world.webhook_url)
    if parts.hostname is None:  # Nobody listens.
        return True
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=_TIMEOUT_S)
    headers = {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": sign(body, world.webhook_secret)}
    try:
        connection.request("POST", parts.path, body, headers)
        return 200 <= connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
