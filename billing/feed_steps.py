"""The outbox's steps towards the provider's meters: found or made once, then told of each report."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from django.utils import timezone

from billing import feeding, outbox
from billing.errors import ProviderRefused, ProviderUnavailable
from billing.models import Customer, MeterFeed, MeterReport, OutboxRow
from billing.periods import hour_of
from billing.providers import provider
from billing.providers.base_meters import MeterEventOrder, MeterState
from billing.steps import Step

Status = MeterReport.Status
_HOUR: Final = timedelta(hours=1)
_NAMES: Final = {MeterFeed.Quantity.CHARGE: "Usage, in millionths of the currency", MeterFeed.Quantity.CALLS: "Calls"}
_KEYS: Final = ("stripe_customer_id", "value")


class CreateMeter(Step[MeterState]):
    """Finds the meter of a feed, or makes it."""

    def ask(self, row: OutboxRow) -> MeterState:
        """Look first: the operator may have made it."""
        feed = MeterFeed.objects.get(pk=row.subject)
        found = provider().find_meter(feed.event_name)
        if found is None:
            name = _NAMES[MeterFeed.Quantity(feed.quantity)]
            found = provider().create_meter(feed.event_name, name=name, key=row.idempotency_key)
        if (found.formula, found.customer_key, found.value_key) != ("sum", *_KEYS):
            said = f"The meter {found.event_name} must sum up `value` by `stripe_customer_id`."
            raise ProviderRefused(reason="meter_counts_otherwise", said=said)
        return found

    def look(self, row: OutboxRow) -> MeterState | None:  # noqa: ARG002 (every step's signature)
        """Nothing more: `ask` looks."""
        return None

    def apply(self, row: OutboxRow, state: MeterState) -> None:
        """Note its id."""
        MeterFeed.objects.filter(pk=row.subject).update(meter_id=state.id, failure="")

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Tell the operator."""
        MeterFeed.objects.filter(pk=row.subject).update(failure=str(error)[:300])
        feeding.log.error("The meter %s cannot be fed: %s", row.parameters["event_name"], error)


class SendMeterEvent(Step[str]):
    """Tells a meter of one report. What comes back is the report's identifier."""

    def ask(self, row: OutboxRow) -> str:
        """Send it. Its identifier, and the key made of it, are the same whenever it is sent."""
        report = _report(row)
        # A renewed key says nothing of when it was sent first: the identifier may be forgotten, and would count again.
        if row.generation and (told := self.look(row)):
            return told
        if report.counted_at < timezone.now() - feeding.TAKEN_FOR:
            raise ProviderRefused(reason=Status.TOO_OLD, said="It waited for longer than the provider takes events of.")
        order = MeterEventOrder(
            event_name=report.feed.event_name,
            customer=_customer_id(report),
            value=report.value,
            identifier=report.identifier,
            counted_at=report.counted_at,
        )
        provider().send_meter_event(order, key=f"{order.identifier}-g{row.generation}" if row.generation else order.identifier)
        return order.identifier

    def look(self, row: OutboxRow) -> str | None:
        """Within a day there is nothing to see to: the identifier counts once. Later, see whether the meter holds it."""
        report, now = _report(row), timezone.now()
        if not outbox.is_key_old(row, now=now) and now - row.created_at <= outbox.KEY_LIVES:
            return None
        hour = hour_of(report.counted_at)
        told = MeterReport.objects.filter(feed=report.feed, account=report.account_id, counted_at__gte=hour, counted_at__lt=hour + _HOUR)
        accepted = sum(one.value for one in told if one.status == Status.ACCEPTED)
        others = sum(one.value for one in told if one.status == Status.WAITING and one.pk != report.pk)
        held = provider().metered(report.feed.meter_id, customer=_customer_id(report), since=hour, until=hour + _HOUR, by="hour")
        more = held.get(hour, 0) - accepted
        if more in {report.value, report.value + others}:
            return report.identifier
        if more not in {0, others}:
            message = f"The meter holds {more} more of {hour:%Y-%m-%d %H:00} than was accepted: whether this is in it cannot be told."
            raise ProviderUnavailable(message)
        return None

    def apply(self, row: OutboxRow, state: str) -> None:  # noqa: ARG002 (every step's signature)
        """Note that it was accepted."""
        MeterReport.objects.filter(pk=row.subject).update(status=Status.ACCEPTED, settled_at=timezone.now())

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Note that it was not."""
        status = Status.TOO_OLD if error.reason in {Status.TOO_OLD, "timestamp_too_far_in_past"} else Status.REFUSED
        MeterReport.objects.filter(pk=row.subject).update(status=status, failure=str(error)[:300], settled_at=timezone.now())
        feeding.log.error("A meter was not told of %s: %s", row.subject, error)


STEPS: Final[Mapping[str, Step[Any]]] = {feeding.MAKE: CreateMeter(), feeding.SEND: SendMeterEvent()}


def _report(row: OutboxRow) -> MeterReport:
    report = MeterReport.objects.select_related("feed").get(pk=row.subject)
    if not report.feed.meter_id:
        message = "The meter has not been made yet."
        raise ProviderUnavailable(message)
    return report


def _customer_id(report: MeterReport) -> str:
    customer_id = Customer.objects.filter(account=report.account_id).values_list("customer_id", flat=True).first()
    if not customer_id:
        message = "The customer has not been made yet."
        raise ProviderUnavailable(message)
    return customer_id
