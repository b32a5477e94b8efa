"""The twelve promises, and who tries to break each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from marketplace.proving import caps, facts_stay


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
        Promise(2, "a cap is never overshot", caps.TRIED, caps.prove),
        Promise(11, "facts stay, and an edit behind our back shows", facts_stay.TRIED, facts_stay.prove),
    )
}
