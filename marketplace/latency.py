"""How fast calls are answered, measured on the real ones: of a model, an organization, or the whole site."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.core.cache import cache
from django.db.models import QuerySet
from django.utils import timezone

from marketplace.models import CatalogueModel, Organization, RequestLog

# The newest answers of the last day: enough for a steady p99, recent enough to be about now.
_SAMPLE: Final = 1000
_WINDOW: Final = timedelta(hours=24)
# A rare model's sample is found by reading a day's log; catalogue pages must not do so each time.
_MODEL_CACHED_S: Final = 30


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the time from request to reply within the site, in microseconds."""

    calls: int
    p50_us: int
    p99_us: int


def latency_of_organization(organization: Organization) -> Latency | None:
    """Return the latency of an organization's last calls; None if none was answered in 24 hours."""
    return _measure(organization.requests.all())


def latency_of_model(model: CatalogueModel) -> Latency | None:
    """Return the latency of a model's last calls by anyone, up to half a minute old: a figure, never whose they were."""
    name = f"model-latency:{model.pk.hex}"
    kept: tuple[Latency | None] | None = cache.get(name)  # In a tuple: None is a figure too.
    if kept is None:
        kept = (_measure(RequestLog.objects.filter(version__in=model.versions.all())),)
        cache.set(name, kept, timeout=_MODEL_CACHED_S)
    return kept[0]


def latency_of_site() -> Latency | None:
    """Return the latency of the site's last calls, for its operator."""
    return _measure(RequestLog.objects.all())


def _measure(requests: QuerySet[RequestLog]) -> Latency | None:
    answered = requests.filter(status=200, route__in=RequestLog.PREDICTS, occurred_at__gt=timezone.now() - _WINDOW)
    times_us = sorted(answered.order_by("-occurred_at").values_list("total_us", flat=True)[:_SAMPLE])
    if not times_us:
        return None
    return Latency(calls=len(times_us), p50_us=percentile(times_us, 50), p99_us=percentile(times_us, 99))


def percentile(ascending: Sequence[int], percent: int) -> int:
    """Return the nearest-rank percentile: the smallest value that `percent` of all values do not exceed.

    Args:
        ascending: At least one value, sorted.
        percent: 1 to 100.
    """
    rank = -(-len(ascending) * percent // 100)  # Rounded up, in whole numbers: 0.99 has no exact float.
    return ascending[rank - 1]
