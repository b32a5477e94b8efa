"""The part of `StripeProvider` that tells Stripe's Billing Meters of usage.

Source: docs.stripe.com/billing/subscriptions/usage-based/recording-usage-api. A 200 says that an event was
accepted, not that it is counted: Stripe counts within minutes, and tells what it could not by thin events.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Final

from billing.errors import ProviderRefused
from billing.periods import render_moment
from billing.providers.base import ProviderEvent
from billing.providers.base_meters import MeterEventOrder, MeterFaultState, MeterState

FAULTS: Final = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
CUSTOMER_KEY: Final = "stripe_customer_id"
VALUE_KEY: Final = "value"
_PAGE: Final = 100
# Words of the refusal of an identifier that was told within the last day.
_DUPLICATE: Final = "already exists with identifier"


class MeterCalls:
    """Calls over the client of `StripeProvider`."""

    _client: Any

    def _errors(self) -> AbstractContextManager[None]:
        """Return what turns the library's errors into ours: `StripeProvider`'s file alone imports the library."""
        raise NotImplementedError

    def find_meter(self, event_name: str) -> MeterState | None:
        """Return the active meter of an event name: there is one at most."""
        with self._errors():
            listed = self._client.v1.billing.meters.list({"status": "active", "limit": _PAGE})
            return next((_meter(one) for one in listed.auto_paging_iter() if one.event_name == event_name), None)

    def create_meter(self, event_name: str, *, name: str, key: str) -> MeterState:
        """Make a meter that sums up what it is told of a customer."""
        asked = {
            "display_name": name,
            "event_name": event_name,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": CUSTOMER_KEY},
            "value_settings": {"event_payload_key": VALUE_KEY},
        }
        with self._errors():
            return _meter(self._client.v1.billing.meters.create(asked, {"idempotency_key": key}))

    def send_meter_event(self, order: MeterEventOrder, *, key: str) -> None:
        """Tell a meter. Stripe refuses an identifier of the last day: then it has the event."""
        asked = {
            "event_name": order.event_name,
            "payload": {CUSTOMER_KEY: order.customer, VALUE_KEY: str(order.value)},
            "identifier": order.identifier,
            "timestamp": int(order.counted_at.timestamp()),
        }
        try:
            with self._errors():
                self._client.v1.billing.meter_events.create(asked, {"idempotency_key": key})
        except ProviderRefused as error:
            if _DUPLICATE not in str(error):
                raise

    def metered(self, meter: str, *, customer: str, since: datetime, until: datetime, by: str) -> Mapping[datetime, int]:
        """Return what a meter holds of a customer, by hour or day. Summaries lag behind events by some minutes."""
        asked = {
            "customer": customer,
            "start_time": int(since.timestamp()),
            "end_time": int(until.timestamp()),
            "value_grouping_window": by,
            "limit": _PAGE,
        }
        with self._errors():
            listed = self._client.v1.billing.meters.event_summaries.list(meter, asked)
            return {datetime.fromtimestamp(one.start_time, UTC): round(one.aggregated_value) for one in listed.auto_paging_iter()}

    def meter_faults(self, event_id: str) -> Sequence[MeterFaultState]:
        """Return what a thin event is about: its notification says no more than its id."""
        with self._errors():
            event = self._client.v2.core.events.retrieve(event_id)
        return [
            MeterFaultState(
                code=str(kind.code),
                count=int(kind.error_count),
                message=str(kind.sample_errors[0].error_message if kind.sample_errors else event.data.developer_message_summary),
                keys=[str(sample.request.identifier) for sample in kind.sample_errors],
            )
            for kind in event.data.reason.error_types
        ]

    def meter_events_since(self, moment: datetime) -> Iterator[ProviderEvent]:
        """Yield thin events; they are in another list than all others."""
        asked = {"types": list(FAULTS), "created": {"gte": render_moment(moment)}, "limit": _PAGE}
        with self._errors():
            for event in self._client.v2.core.events.list(asked).auto_paging_iter():
                yield thin_event(event, body=str(event))


def thin_event(event: Any, *, body: str) -> ProviderEvent:
    """Return a thin event, or its notification, as ours."""
    related = getattr(event, "related_object", None)
    return ProviderEvent(
        id=event.id,
        type=event.type,
        object_id=str(related.id) if related else "",
        created_at=datetime.fromisoformat(event.created),
        livemode=bool(event.livemode),
        body=body,
    )


def _meter(made: Any) -> MeterState:
    return MeterState(
        id=made.id,
        event_name=made.event_name,
        formula=made.default_aggregation.formula,
        customer_key=made.customer_mapping.event_payload_key,
        value_key=made.value_settings.event_payload_key,
    )
