"""The counts of a process, and the site's figures, in Prometheus' text format or in OpenMetrics.

No tenant's id is a label: who may read metrics need not learn who the customers are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

from inference.engine import EngineStats
from marketplace.metrics import BOUNDS_S, CallCounts, Observed

_ROW_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFigures:
    """What this gateway process knows of itself; another one answers for itself at its own address."""

    calls: CallCounts
    engine: EngineStats
    lease_held_nanos: int
    log_dropped: int  # Refusals that the request log left out.
    is_ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Everything:
    """What `generate_latest` takes for a registry."""

    process: ProcessFigures
    site: Mapping[str, tuple[str, float]]

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from _calls(self.process.calls)
        yield from _engine(self.process.engine)
        yield _gauge("farebox_ready", "1 while this process could answer a call now", float(self.process.is_ready))
        yield _gauge("farebox_lease_held_nanos", "Held by this process's running calls, on all budgets", self.process.lease_held_nanos)
        yield _counter("farebox_request_log_dropped", "Refusals that the request log left out to save the disk", self.process.log_dropped)
        for name, (help_text, value) in self.site.items():
            yield _gauge(name, help_text, value)


def render_metrics(process: ProcessFigures, site: Mapping[str, tuple[str, float]], *, accept: str) -> tuple[bytes, str]:
    """Return the page and its content type.

    Args:
        process: This process's figures.
        site: The figures that all processes share, read from the database: name -> help and value.
        accept: The Accept header; a scraper that takes OpenMetrics gets it.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_Everything(process=process, site=site)), content_type


def _calls(counts: CallCounts) -> Iterator[Metric]:
    requests = CounterMetricFamily("farebox_requests", "Calls by what came of them", labels=("model", "version", "outcome"))
    for model, version, outcome, calls in counts.outcomes:
        requests.add_metric((model, version, outcome), calls)
    yield requests
    seconds = HistogramMetricFamily("farebox_request_seconds", "Seconds of answered calls, by stage", labels=("model", "stage"))
    for model, stage, observed in counts.stages:
        seconds.add_metric((model, stage), _buckets(observed), observed.total_s)
    yield seconds
    refused = CounterMetricFamily("farebox_refused", "Refusals by the code of their problem", labels=("reason",))
    for code, calls in counts.refused:
        refused.add_metric((code,), calls)
    yield refused
    yield _counter("farebox_units", "Units of answered calls, of whatever kind their prices count", counts.units)
    yield _counter("farebox_charged_nanos", "Charged for answered calls, before refunds", counts.charged_nanos)
    commits = HistogramMetricFamily("farebox_commit_seconds", "Seconds that a group commit took")
    commits.add_metric((), _buckets(counts.commits), counts.commits.total_s)
    yield commits


def _engine(stats: EngineStats) -> Iterator[Metric]:
    rows = HistogramMetricFamily("farebox_batch_rows", "Rows of a batch")
    sizes = stats.batches_by_rows.items()
    upto = [(str(float(bound)), sum(batches for size, batches in sizes if size <= bound)) for bound in _ROW_BOUNDS]
    rows.add_metric((), [*upto, ("+Inf", sum(batches for _, batches in sizes))], sum(size * batches for size, batches in sizes))
    yield rows
    padding = 1 - stats.tokens / stats.padded_tokens if stats.padded_tokens else 0.0
    yield _gauge("farebox_batch_padding_ratio", "Share of the computed time steps that were padding, since the start", padding)
    yield _counter("farebox_batch_tokens", "Time steps that were asked for", stats.tokens)
    yield _counter("farebox_batch_padded_tokens", "Time steps that were computed: rows x longest of each batch", stats.padded_tokens)
    yield _gauge("farebox_queue_depth", "Rows that wait for a worker", stats.queue_rows)
    yield _counter("farebox_worker_restarts", "Inference workers that ended and were started again", stats.restarts)
    yield _gauge("farebox_workers_ready", "Inference workers that take batches", stats.ready_workers)
    yield _gauge("farebox_workers_without_gpu", "Inference workers that asked for CUDA and run on the CPU", stats.cpu_workers)
    on_cpu = sum(version.figures.cpu_nodes for version in stats.versions if version.loaded) if stats.asks_cuda else 0
    yield _gauge("farebox_cpu_nodes", "Nodes of loaded models that run on the CPU although CUDA was asked for", on_cpu)
    engine = GaugeMetricFamily("farebox_engine_info", "Where models run", labels=("provider",))
    engine.add_metric((stats.provider,), 1)
    yield engine


def _buckets(observed: Observed) -> list[tuple[str, float]]:
    """Return a histogram's intervals as Prometheus has them: each with all that lies below."""
    buckets, below = [], 0
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), observed.counts, strict=True):
        below += count
        buckets.append((bound, float(below)))
    return buckets


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, value=value)


def _counter(name: str, help_text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, help_text, value=value)
