"""What billing needs of whoever keeps meters of usage beside ours."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from billing.providers.base import ProviderEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterState:
    """A meter as it is now."""

    id: str
    event_name: str
    formula: str  # "sum", "count", "last".
    customer_key: str  # Names in an event's payload.
    value_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterEventOrder:
    """One event that a meter is told."""

    event_name: str
    customer: str
    value: int
    identifier: str  # Counts once, however often it is told within a day.
    counted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterFaultState:
    """Events that were accepted and are not counted, of one cause."""

    code: str
    count: int
    message: str
    keys: Sequence[str]  # Idempotency keys of some of them.


class MeterProvider(Protocol):
    """Keeps meters. As for every method of `Provider`: one call over the network, and never inside a transaction."""

    def find_meter(self, event_name: str) -> MeterState | None:
        """Return the active meter of an event name, if any."""
        ...

    def create_meter(self, event_name: str, *, name: str, key: str) -> MeterState:
        """Make a meter that sums up."""
        ...

    def send_meter_event(self, order: MeterEventOrder, *, key: str) -> None:
        """Tell a meter; one that was told already stays so. Accepted is not counted: that comes later."""
        ...

    def metered(self, meter: str, *, customer: str, since: datetime, until: datetime, by: str) -> Mapping[datetime, int]:
        """Return what a meter holds of a customer, "hour" by hour or "day" by day; those that hold nothing may be missing."""
        ...

    def meter_faults(self, event_id: str) -> Sequence[MeterFaultState]:
        """Return what an event says that was not counted."""
        ...

    def meter_events_since(self, moment: datetime) -> "Iterator[ProviderEvent]":
        """Yield the events that tell of faults, since a moment, the newest first."""
        ...
