"""How fast a model answers, measured on its real calls."""

from datetime import timedelta
from math import ceil
from typing import Final, TypedDict

from django.core.cache import cache
from django.utils import timezone

from marketplace.models import CatalogueModel, RequestLog

# The newest answers of the last day: enough for a steady p99, recent enough to be about now.
SAMPLE_CALLS: Final = 1000
SAMPLE_HOURS: Final = 24
# A rare model's sample is found by reading a day's log; catalogue pages must not do so each time.
_CACHED_S: Final = 30


class Latency(TypedDict):
    """Figures only, over all tenants: nothing in them tells whose calls they were."""

    calls: int
    p50_ms: float | None
    p99_ms: float | None


def measured_latency(model: CatalogueModel) -> Latency:
    """Return a model's p50 and p99 in milliseconds, door to door, up to half a minute old."""
    name = f"latency:{model.pk.hex}"
    cached: Latency | None = cache.get(name)
    if cached is None:
        cached = latency_of(_sample_us(model))
        cache.set(name, cached, _CACHED_S)
    return cached


def _sample_us(model: CatalogueModel) -> list[int]:
    answered = RequestLog.objects.filter(
        version__in=model.versions.all(),
        route="predict",
        status=200,
        occurred_at__gt=timezone.now() - timedelta(hours=SAMPLE_HOURS),
    )
    return list(answered.order_by("-occurred_at").values_list("total_us", flat=True)[:SAMPLE_CALLS])


def latency_of(times_us: list[int]) -> Latency:
    """Return the nearest-rank percentiles of some times in microseconds."""
    ascending = sorted(times_us)
    return Latency(calls=len(ascending), p50_ms=_percentile_ms(ascending, 50), p99_ms=_percentile_ms(ascending, 99))


def _percentile_ms(ascending: list[int], percent: int) -> float | None:
    """Return the smallest time that `percent` of all do not exceed; None without any."""
    if not ascending:
        return None
    return ascending[max(0, ceil(len(ascending) * percent / 100) - 1)] / 1000
