"""Traces, as a collector gets them over HTTP. In a process without the extra `otel` there are none to test."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from marketplace import tracing
from marketplace.tracing import Trace, Tracer, is_sampled, start_tracer
from tests.collector import Collector, attributes_of, collecting

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = PARENT[:-1] + "0"


@pytest.fixture
def collector() -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    with collecting() as collector:
        yield collector


def call(**changes: Any) -> Trace:
    began = time.perf_counter() - 0.02
    stages = [(b"auth", 0.001), (b"queue", 0.002), (b"infer", 0.003)]
    return Trace("predict", began, began + 0.01, stages, {"farebox.model": "acme/one", "farebox.units": 7}, "")._replace(**changes)


def test_a_call_is_a_span_with_its_stages_below(collector: Collector) -> None:
    tracer = Tracer(collector.url, service="shop", ratio=1)
    before = time.time()
    tracer.trace(call(), parent={})
    tracer.stop()

    assert (collector.paths, collector.services) == ({"/v1/traces"}, {"shop"})
    spans = {span.name: span for span in collector.wait_for(4)}
    whole = spans.pop("predict")
    assert whole.parent_span_id == b""
    assert attributes_of(whole) == {"farebox.model": "acme/one", "farebox.units": 7}
    assert abs(whole.end_time_unix_nano - whole.start_time_unix_nano - 10_000_000) < 1_000
    assert abs(whole.start_time_unix_nano / 1e9 - (before - 0.02)) < 1
    assert {span.parent_span_id for span in spans.values()} == {whole.span_id}
    assert {span.trace_id for span in spans.values()} == {whole.trace_id}
    auth, queue, infer = (spans[name] for name in ("auth", "queue", "infer"))
    assert auth.start_time_unix_nano == whole.start_time_unix_nano
    assert queue.start_time_unix_nano == auth.end_time_unix_nano  # One after the other.
    assert abs(infer.end_time_unix_nano - whole.start_time_unix_nano - 6_000_000) < 3_000


def test_a_callers_trace_goes_on(collector: Collector) -> None:
    tracer = Tracer(collector.url, service="shop", ratio=0)
    tracer.trace(call(error="failed"), parent={"traceparent": PARENT})
    tracer.stop()

    whole = next(span for span in collector.wait_for(4) if span.name == "predict")
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (PARENT[3:35], PARENT[36:52])
    assert (whole.status.code, whole.status.message) == (2, "failed")


def test_what_callers_decide_holds_and_chance_decides_the_rest(collector: Collector) -> None:
    never, always = (Tracer(collector.url, service="shop", ratio=ratio) for ratio in (0, 1))

    assert [tracer.wants(header) for tracer in (never, always) for header in (PARENT, UNSAMPLED, None)] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]
    never.stop()
    always.stop()


def test_who_asks_for_many_traces_gets_a_few(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = Tracer(collector.url, service="shop", ratio=0)
    now = 1000.5
    monkeypatch.setattr(tracing.time, "monotonic", lambda: now)

    assert sum(tracer.wants(PARENT) for _ in range(250)) == 100
    assert tracer.dropped == 150
    now += 1
    assert tracer.wants(PARENT)
    monkeypatch.undo()
    tracer.stop()


def test_a_collector_that_is_away_costs_its_traces_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    tracer = Tracer("http://127.0.0.1:9", service="shop", ratio=1)
    began = time.monotonic()
    tracer.trace(call(), parent={})

    assert time.monotonic() - began < 0.5
    tracer.stop()


@pytest.mark.parametrize("header", ["", "00", "x" * 55, "00-1-2-01", PARENT[:-2] + "zz", PARENT.replace("-", "")])
def test_what_is_no_traceparent_asks_for_nothing(header: str) -> None:
    assert not is_sampled(header)


def test_without_an_endpoint_there_is_no_tracer(settings: Any) -> None:
    assert settings.OTEL_EXPORTER_OTLP_ENDPOINT == ""
    assert start_tracer() is None


def test_an_endpoint_without_the_extra_is_named(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    settings.OTEL_EXPORTER_OTLP_ENDPOINT = "http://127.0.0.1:4318"
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(ImproperlyConfigured, match="otel"):
        start_tracer()
