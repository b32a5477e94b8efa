"""The fake Stripe over real HTTP, and the hands of customer, bank and Celery around it."""

import contextlib
import json
import random
import time
from collections.abc import Iterator
from typing import Any, Final

from django.test import Client
from django.utils import timezone

from billing import recharging, sending, topups, webhooks
from billing.models import Account, OutboxRow, StripeEventWork, TopUp
from billing.providers import use
from billing.providers.fake import checkout, delivery
from billing.providers.fake.server import API_KEY
from billing.providers.fake.store import Obj, shown
from billing.providers.fake.world import World
from billing.providers.stripe import StripeProvider
from marketplace.proving.findings import Untried, require
from marketplace.proving.hanging import HANG_S, TIMEOUT_S, SharedStripe, serving_worlds

__all__ = ["HANG_S", "SECRET", "TIMEOUT_S", "Till", "open_till", "wait_until"]

SECRET: Final = "whsec_of_the_scenes"  # noqa: S105 (signs a fake's webhooks)


class Till:
    """A fake Stripe account, and what people do with it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = Client(SERVER_NAME="127.0.0.1")  # As ALLOWED_HOSTS has it, outside of tests, too.
        self._told = 0  # Events that were delivered.

    # ------------------------------------------------------------ The customer

    def start(self, account: Account, cents: int = 2500) -> TopUp:
        """Start a top-up as the Billing page does."""
        top_up, row = topups.start_top_up(account, cents, by="ada@example.com", success_url="http://x/{id}/", cancel_url="http://x/")
        sending.deliver(row.pk)
        top_up.refresh_from_db()
        return top_up

    def session(self, top_up: TopUp) -> Obj:
        """Return a top-up's Checkout session."""
        return self.world.store.get("checkout.session", top_up.checkout_id)

    def pay(self, top_up: TopUp, card: str = "4242") -> None:
        """Pay on the Checkout page."""
        checkout.pay_by_card(self.world, self.session(top_up), card)

    def top_up(self, account: Account, cents: int = 2500, card: str = "4242") -> TopUp:
        """Buy credit, all the way."""
        top_up = self.start(account, cents)
        self.pay(top_up, card)
        self.tell()
        top_up.refresh_from_db()
        return top_up

    # ------------------------------------------------------------ Webhooks

    def post(self, event: Obj, *, secret: str = SECRET, at: int | None = None, signed: Obj | None = None) -> Any:
        """Send one event to the site, signed as itself or as another; return the reply."""
        body = json.dumps(shown(event)).encode()
        signature = delivery.sign(json.dumps(shown(signed)).encode() if signed else body, secret, at=at)
        return self.client.post("/stripe/webhooks", body, content_type="application/json", headers={"stripe-signature": signature})

    def post_taken(self, event: Obj) -> None:
        """Send one event, which the site must take."""
        status = self.post(event).status_code
        require(status == 200, f"the webhook {event['type']} was answered {status}")

    def tell_some(self, choose: random.Random, sent: set[str], *, lost: float = 0) -> None:
        """Send some of the events that are not in `sent`, shuffled, one of three twice, and apply them; the part `lost` is never sent."""
        events = [event for event in self.events() if event["id"] not in sent]
        choose.shuffle(events)
        for event in events[: choose.randrange(len(events) + 1)]:
            sent.add(event["id"])
            if lost and choose.random() < lost:
                continue
            for _ in range(choose.choice([1, 1, 2])):
                self.post_taken(event)
        webhooks.apply_waiting()

    def events(self) -> list[Obj]:
        """Return all that happened, oldest first."""
        return self.world.store.all("event")[::-1]

    def tell(self) -> None:
        """Send what was not sent yet, and apply it."""
        events = self.events()
        for event in events[self._told :]:
            self.post_taken(event)
        self._told = len(events)
        webhooks.apply_waiting()

    # ------------------------------------------------------------ Time and Celery

    def sweep(self) -> None:
        """Do what Celery does every few seconds."""
        recharging.recharge_due()
        sending.sweep()
        webhooks.apply_waiting()

    def make_due(self) -> None:
        """Let the time of every back-off pass, and requests that hang end."""
        wait_until(lambda: not self.world.running)
        OutboxRow.objects.filter(state="waiting").update(due_at=timezone.now())
        StripeEventWork.objects.filter(outcome="waiting").update(due_at=timezone.now())

    def count(self, kind: str) -> int:
        """Return how many objects of a kind Stripe has."""
        return len(self.world.store.all(kind))

    def requests(self, route: str) -> int:
        """Return how often an address was asked."""
        return sum(asked == route for asked in self.world.requests)


@contextlib.contextmanager
def open_till(stripe: SharedStripe | None = None) -> Iterator[Till]:
    """Open an account at a fake Stripe, one of its own unless told otherwise, and have it be the provider."""
    with contextlib.ExitStack() as stack:
        world = stack.enter_context((stripe or stack.enter_context(serving_worlds())).world(webhook_secret=SECRET))
        world.faults.silent = True  # Tests deliver webhooks themselves, when they want to.
        provider = StripeProvider(
            api_key=API_KEY, webhook_secret=SECRET, timeout_s=TIMEOUT_S, base_url=world.base_url, name="fake", retries=0
        )
        with use(provider):
            yield Till(world)


def wait_until(is_so: Any, *, timeout_s: float = 10) -> None:
    """Wait for something to become so."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            message = f"What was waited for did not come to be within {timeout_s:.0f} s."
            raise Untried(message)
        time.sleep(0.01)
