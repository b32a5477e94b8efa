"""The fake's state, its clock's due work, its events and its faults: what every handler is given."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from billing.providers.fake.store import Obj, Store, shown

API_VERSION: Final = "2026-10-28.endive"
# A fault that never ends by itself answers after this long; clients give up before.
_HANG_S: Final = 30.0


@dataclass
class Fault:
    """What goes wrong with the next requests that match."""

    kind: str  # "timeout_after", "timeout_before", "error_500", "error_500_after", "rate_limit", "conflict", "slow".
    match: str = ""  # Part of "POST /v1/refunds"; empty for all.
    times: int = 1
    seconds: float = _HANG_S  # How long "slow" and the timeouts take.


@dataclass
class Faults:
    """Everything that can be made to go wrong."""

    waiting: list[Fault] = field(default_factory=list)
    probability: float = 0.0  # Of a random fault per request that changes something.
    kinds: tuple[str, ...] = ("timeout_after", "error_500", "error_500_after", "rate_limit", "slow")
    seconds: float = 1.0  # How long random ones take.
    hang: Callable[[float], Awaitable[Any]] = asyncio.sleep  # What a request does that takes its time.
    taken: int = 0  # How many requests went wrong.
    random: Random = field(default_factory=lambda: Random(0))  # noqa: S311 (faults are seeded, not secret)
    uncounted: int = 0  # Meter events that are accepted, and not counted: a thin event tells.
    # Of the webhooks.
    duplicates: int = 0  # Further deliveries of each event.
    shuffled: bool = False
    delay_s: float = 0.0
    silent: bool = False  # Nothing is delivered, nor will be.
    before_the_answer: bool = False  # An event arrives before the request that caused it is answered.

    def take(self, route: str) -> Fault | None:
        """Return the fault that a request meets, if any, and count it."""
        for fault in self.waiting:
            if fault.match in route:
                fault.times -= 1
                if fault.times <= 0:
                    self.waiting.remove(fault)
                self.taken += 1
                return fault
        if route.startswith("POST /v1/") and self.probability and self.random.random() < self.probability:
            self.taken += 1
            return Fault(kind=self.random.choice(self.kinds), seconds=self.seconds)
        return None


class World:
    """One fake Stripe account."""

    def __init__(self, store: Store, *, base_url: str, webhook_url: str, webhook_secret: str, async_delay_s: float = 5.0) -> None:
        """`async_delay_s`: after how long bank debits succeed or fail."""
        self.store = store
        self.base_url = base_url.rstrip("/")
        self.webhook_url = webhook_url
        self.webhook_secret = webhook_secret
        self.async_delay_s = async_delay_s
        self.faults = Faults()
        self.running: set[str] = set()  # Idempotency keys whose first request has not ended.
        self.requests: deque[str] = deque(maxlen=2000)  # "POST /v1/refunds", oldest first.

    def emit(self, kind: str, thing: Obj, *, account: str = "") -> Obj:
        """Record that something happened, in a connected account where one is named, with the object as it is now; have it delivered."""
        fields: dict[str, Any] = {
            "api_version": API_VERSION,
            "data": {"object": shown(thing)},
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": kind,
            **({"account": account} if account else {}),
        }
        event = self.store.add("event", "evt", fields)
        self.queue(event)
        return event

    def queue(self, event: Obj) -> None:
        """Have an event delivered, as often and as late as the faults say."""
        if not self.faults.silent:
            for _ in range(1 + self.faults.duplicates):
                wait = self.faults.delay_s * (self.faults.random.random() if self.faults.shuffled else 1)
                self.store.queue(event["id"], due=time.time() + wait)

    def due_later(self, what: str, identity: str) -> None:
        """Have a bank debit settle: `what` is "succeed" or "fail", the id is the Checkout session's."""
        self.store.add("_later", "later", {"_what": what, "_of": identity, "_due": time.time() + self.async_delay_s})
