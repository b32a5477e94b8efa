"""The twelve promises, and who tries to break each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from marketplace.proving import (
    books,
    caps,
    charged,
    contained,
    delivered,
    doubt,
    facts_stay,
    frozen,
    provider_events,
    revoked,
    same_key,
    tenants,
)


@dataclass(frozen=True, slots=True)
class Promise:
    """A promise, what is tried against it, and the attempt."""

    number: int
    says: str
    tried: str
    prove: Callable[[], str]  # Returns what was seen; raises Broken or Untried.


PROMISES: Final = {
    promise.number: promise
    for promise in (
        Promise(1, "charged means answered, answered means recorded", charged.TRIED, charged.prove),
        Promise(2, "a cap is never overshot", caps.TRIED, caps.prove),
        Promise(3, "the books balance", books.TRIED, books.prove),
        Promise(4, "same Idempotency-Key, same bytes, one charge", same_key.TRIED, same_key.prove),
        Promise(5, "doubt is the customer's", doubt.TRIED, doubt.prove),
        Promise(6, "webhooks of Stripe change nothing they should not", provider_events.TRIED, provider_events.prove),
        Promise(7, "no tenant sees another's", tenants.TRIED, tenants.prove),
        Promise(8, "price is frozen at admission", frozen.TRIED, frozen.prove),
        Promise(9, "a revoked key fails everywhere within a second", revoked.TRIED, revoked.prove),
        Promise(10, "a model reaches no file, network or memory of others", contained.TRIED, contained.prove),
        Promise(11, "facts stay, and an edit behind our back shows", facts_stay.TRIED, facts_stay.prove),
        Promise(12, "what is accepted is delivered", delivered.TRIED, delivered.prove),
    )
}
