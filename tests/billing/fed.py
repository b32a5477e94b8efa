"""What the tests of the meter feed share: hours of yesterday, and the hands that send and look."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from billing import feed_checks, sending
from billing.models import MeterReport, Price
from billing.periods import hour_of
from billing.posting import post_usage
from tests.billing.facts import Recorder
from tests.till import Till

NOW = timezone.now()
# Three hours of yesterday: over, looked at, and within what the provider takes.
HOURS = [hour_of(NOW) - timedelta(days=1, hours=back) for back in (3, 2, 1)]
DAY = timedelta(days=1)


def deliver(till: Till, times: int = 2) -> None:
    """Send what is due, again where it got no answer."""
    for _ in range(times):
        till.make_due()
        sending.sweep()


def held(till: Till) -> int:
    """All that the meters hold."""
    return sum(one["_value"] for one in till.world.store.all("billing.meter_event"))


def use(recorder: Recorder, price: Price, hour: datetime, units: int) -> Any:
    """Call once, and have it posted."""
    event = recorder.record(price, units=units, occurred_at=hour + timedelta(minutes=5))
    post_usage(now=NOW, everything=True)
    return event


def look(*, days: int = 1) -> None:
    """Have all that was sent be counted, and looked at."""
    MeterReport.objects.exclude(settled_at=None).update(settled_at=NOW - timedelta(hours=2))
    feed_checks.look_at_meters(now=NOW.replace(hour=12) + days * DAY, again=True)
