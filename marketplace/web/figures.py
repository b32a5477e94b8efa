"""What pages compute from the request log and the usage: latency, and sums over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.core.cache import cache
from django.db.models import QuerySet
from django.utils import timezone

from marketplace.models import CatalogueModel, Organization, RequestLog

# Percentiles come from at most this many answered calls: enough for a p99, cheap to sort.
_SAMPLE: Final = 1000
_WINDOW: Final = timedelta(hours=24)
_MODEL_CACHE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the time from request to reply within the site, in microseconds."""

    calls: int
    p50_us: int
    p99_us: int


def percentile(ascending: Sequence[int], share: float) -> int:
    """Return the nearest-rank percentile: the smallest value that `share` of all values do not exceed.

    Args:
        ascending: At least one value, sorted.
        share: 0 < share <= 1.
    """
    rank = -(-len(ascending) * share // 1)  # Rounded up.
    return ascending[max(int(rank), 1) - 1]


def latency_of(organization: Organization) -> Latency | None:
    """Return the latency of an organization's last calls; None if none was answered in 24 hours."""
    return _latency(RequestLog.objects.filter(organization=organization))


def latency_of_model(model: CatalogueModel) -> Latency | None:
    """Return the latency of a model's last calls by anyone: a figure, never whose they were."""
    name = f"model-latency:{model.pk}"
    kept = cache.get(name)
    if kept is None:
        kept = (_latency(RequestLog.objects.filter(version__model=model)),)
        cache.set(name, kept, timeout=_MODEL_CACHE_S)
    latency: Latency | None = kept[0]
    return latency


def _latency(requests: QuerySet[RequestLog]) -> Latency | None:
    answered = requests.filter(status=200, route="predict", occurred_at__gte=timezone.now() - _WINDOW)
    totals = sorted(answered.order_by("-occurred_at").values_list("total_us", flat=True)[:_SAMPLE])
    if not totals:
        return None
    return Latency(calls=len(totals), p50_us=percentile(totals, 0.50), p99_us=percentile(totals, 0.99))


def hour_start(moment: datetime) -> datetime:
    """Return the first moment of an hour."""
    return moment.replace(minute=0, second=0, microsecond=0)


def day_start(moment: datetime) -> datetime:
    """Return the first moment of a UTC day."""
    return hour_start(moment).replace(hour=0)


def month_start(moment: datetime) -> datetime:
    """Return the first moment of a UTC month."""
    return day_start(moment).replace(day=1)
