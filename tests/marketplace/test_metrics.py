"""What is counted, and how Prometheus reads it."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from inference.counters import VersionFigures
from inference.engine import EngineStats, VersionStats
from marketplace.metrics import BOUNDS_S, CallMetrics
from marketplace.metrics_text import ProcessFigures, render_metrics

LABELS = ("model", "version", "outcome", "stage", "le", "reason", "provider")  # None of a tenant.
STAGES = [(b"auth", 0.00004), (b"limit", 0.00002), (b"queue", 0.001), (b"infer", 0.003), (b"settle", 0.01)]


def figures(metrics: CallMetrics, **engine: Any) -> ProcessFigures:
    stats: dict[str, Any] = {
        "queue_rows": 0, "batches": 0, "rows": 0, "tokens": 0, "padded_tokens": 0, "failed_rows": 0, "retried_rows": 0,
        "batches_by_rows": {}, "restarts": 0, "ready_workers": 2, "pids": (), "versions": (), "provider": "cpu", "sandbox": {},
        "asks_cuda": False, "cpu_workers": 0,
    }  # fmt: skip
    return ProcessFigures(calls=metrics.read(), engine=EngineStats(**stats | engine), lease_held_nanos=17, log_dropped=3, is_ready=True)


def samples(page: bytes) -> dict[tuple[str, ...], float]:
    """Read a page as a scraper does: (name, label values in `LABELS`' order...) -> value."""
    families = text_string_to_metric_families(page.decode())
    found = [sample for family in families for sample in family.samples]
    assert {label for sample in found for label in sample.labels} <= set(LABELS)
    return {(sample.name, *(sample.labels[label] for label in LABELS if label in sample.labels)): sample.value for sample in found}


def scraped(metrics: CallMetrics, **engine: Any) -> dict[tuple[str, ...], float]:
    return samples(render_metrics(figures(metrics, **engine), {}, accept="")[0])


def test_answered_calls_are_counted_by_version_and_timed_by_model() -> None:
    metrics = CallMetrics()
    for version in (1, 2, 2):
        metrics.answered("acme/one", version, STAGES, 0.0141, 11, 2200)

    read = scraped(metrics)

    assert read["farebox_requests_total", "acme/one", "1", "answered"] == 1
    assert read["farebox_requests_total", "acme/one", "2", "answered"] == 2
    assert (read["farebox_units_total",], read["farebox_charged_nanos_total",]) == (33, 6600)
    for stage, seconds in [*STAGES, (b"total", 0.0141)]:
        assert read["farebox_request_seconds_count", "acme/one", stage.decode()] == 3
        assert abs(read["farebox_request_seconds_sum", "acme/one", stage.decode()] - 3 * seconds) < 1e-12


def test_a_duration_lies_in_every_bucket_from_its_own_upwards() -> None:
    metrics = CallMetrics()
    metrics.answered("acme/one", 1, [(b"infer", 0.005)], 99.0, 1, 0)  # Exactly a bound, and beyond the last.

    read = scraped(metrics)

    buckets = [read["farebox_request_seconds_bucket", "acme/one", "infer", str(bound)] for bound in BOUNDS_S]
    assert buckets == [float(bound >= 0.005) for bound in BOUNDS_S]
    assert [read["farebox_request_seconds_bucket", "acme/one", "total", bound] for bound in ("10.0", "+Inf")] == [0, 1]


def test_what_was_not_answered_is_counted_by_outcome_and_by_reason() -> None:
    metrics = CallMetrics()
    metrics.ended("acme/one", 3, "refused")
    metrics.ended("", 0, "refused")
    metrics.refused("rate_limited")
    metrics.refused("model_not_found")

    read = scraped(metrics)

    assert read["farebox_requests_total", "acme/one", "3", "refused"] == read["farebox_requests_total", "", "", "refused"] == 1
    assert read["farebox_refused_total", "rate_limited"] == read["farebox_refused_total", "model_not_found"] == 1
    assert read["farebox_request_seconds_count", "acme/one", "total"] == 0  # Only answers are timed.
    assert (read["farebox_units_total",], read["farebox_charged_nanos_total",]) == (0, 0)


def test_commits_and_batches_are_told() -> None:
    metrics = CallMetrics()
    metrics.committed(0.004)

    read = scraped(metrics, tokens=60, padded_tokens=80, batches_by_rows={1: 5, 4: 2, 300: 1}, queue_rows=9, restarts=1, provider="cuda")

    assert (read["farebox_commit_seconds_count",], read["farebox_commit_seconds_sum",]) == (1, 0.004)
    assert [read["farebox_batch_rows_bucket", bound] for bound in ("1.0", "2.0", "4.0", "256.0", "+Inf")] == [5, 5, 7, 7, 8]
    assert read["farebox_batch_rows_sum",] == 5 + 8 + 300
    assert (read["farebox_batch_padding_ratio",], read["farebox_queue_depth",], read["farebox_worker_restarts_total",]) == (0.25, 9, 1)
    assert read["farebox_engine_info", "cuda"] == 1
    assert (read["farebox_lease_held_nanos",], read["farebox_request_log_dropped_total",]) == (17, 3)


def test_a_gpu_that_was_asked_for_and_not_had_is_told() -> None:
    kinds = {"loaded": True, "provider": "cpu", "waiting_rows": 0}
    loaded = VersionStats(key="a", figures=VersionFigures(nodes=42, cpu_nodes=42), **kinds)
    gone = VersionStats(key="b", figures=VersionFigures(nodes=7, cpu_nodes=7), **kinds | {"loaded": False})

    asked = scraped(CallMetrics(), asks_cuda=True, cpu_workers=2, versions=(loaded, gone))
    not_asked = scraped(CallMetrics(), versions=(loaded, gone))

    assert (asked["farebox_workers_without_gpu",], asked["farebox_cpu_nodes",], asked["farebox_engine_info", "cpu"]) == (2, 42, 1)
    assert (not_asked["farebox_workers_without_gpu",], not_asked["farebox_cpu_nodes",]) == (0, 0)


def test_a_scraper_that_takes_openmetrics_gets_it() -> None:
    page, content_type = render_metrics(figures(CallMetrics()), {"farebox_x": ("Help", 4.0)}, accept="application/openmetrics-text")

    assert content_type.startswith("application/openmetrics-text")
    assert page.endswith(b"farebox_x 4.0\n# EOF\n")
