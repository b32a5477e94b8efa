"""What a running site tells its operator's machines: /healthz, /readyz, /metrics."""

import os
import signal
import time
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.collector import Collector, attributes_of, collecting
from tests.flows.calls import Answer, Caller
from tests.flows.server import Site, start_site
from tests.marketplace.test_metrics import samples

TOKEN = "only-the-scraper-knows"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector | None]:
    """Where the site's traces go; None where the extra otel is not installed."""
    if not find_spec("opentelemetry"):
        yield None
        return
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def watched(collector: Collector | None) -> Iterator[Site]:
    """A site whose metrics need a token, and which traces what its callers ask it to."""
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SAMPLE_PERCENT": "0"} if collector else {}
    with start_site(METRICS_TOKEN=TOKEN, **traced) as site:
        yield site


def scrape(site: Site) -> dict[tuple[str, ...], float]:
    answer = Caller(site.port, TOKEN).get("/metrics")
    assert answer.status == 200, answer.body
    return samples(answer.body)


def test_metrics_count_what_callers_saw(watched: Site) -> None:
    caller = Caller(watched.port, watched.key)
    before = scrape(watched)
    answers = [caller.predict() for _ in range(3)]
    answers += [caller.predict(idempotency_key="once"), caller.predict(idempotency_key="once")]
    refused = [caller.predict({"input_data": 7}), caller.post("/v1/models/no/such/predict", {}), Caller(watched.port, "x").predict()]
    assert caller.post("/v1/models/farebox/sentiment/estimate", {"input_data": "x"}).status == 200
    after = scrape(watched)

    def grown(*name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    paid = [answer for answer in answers if "idempotent-replayed" not in answer.headers]
    assert [answer.status for answer in answers] == [200] * 5
    assert [answer.code for answer in refused] == ["invalid_input", "model_not_found", "key_malformed"]
    served = ("farebox_requests_total", "farebox/sentiment", "1")
    assert [grown(*served, outcome) for outcome in ("answered", "replayed", "estimated", "refused")] == [4, 1, 1, 1]
    assert grown("farebox_requests_total", "", "", "refused") == 2
    assert [grown("farebox_refused_total", answer.code) for answer in refused] == [1, 1, 1]
    assert grown("farebox_units_total") == sum(answer.json()["usage"]["units"] for answer in paid)
    assert grown("farebox_charged_nanos_total") == sum(round(1e9 * float(answer.json()["usage"]["cost"])) for answer in paid)
    for stage in ("auth", "limit", "queue", "infer", "settle", "total"):
        assert grown("farebox_request_seconds_count", "farebox/sentiment", stage) == 4
    assert grown("farebox_batch_rows_count") == 4
    assert grown("farebox_commit_seconds_count") >= 4
    assert after["farebox_lease_held_nanos",] == after["farebox_queue_depth",] == 0


def test_every_metric_of_the_contract_is_there_and_none_names_a_tenant(watched: Site) -> None:
    Caller(watched.port, watched.key).predict()
    deadline = time.monotonic() + 90  # The books are checked within a minute of the start.
    while ("farebox_books_difference_nanos",) not in (read := scrape(watched)):
        assert time.monotonic() < deadline
        time.sleep(2)

    names = {name[0] for name in read}
    assert names >= {
        "farebox_requests_total", "farebox_request_seconds_bucket", "farebox_batch_rows_bucket", "farebox_batch_padding_ratio",
        "farebox_queue_depth", "farebox_units_total", "farebox_charged_nanos_total", "farebox_refused_total", "farebox_commit_seconds_bucket",
        "farebox_outbox_age_seconds", "farebox_lease_held_nanos", "farebox_worker_restarts_total", "farebox_books_difference_nanos",
    }  # fmt: skip
    assert read["farebox_books_difference_nanos",] == read["farebox_audit_chain_broken",] == 0
    organization = watched.query("SELECT id FROM marketplace_organization WHERE slug = 'demo'")
    page = Caller(watched.port, TOKEN).get("/metrics").body.decode()
    assert "demo" not in page
    assert str(organization) not in page.replace("-", "")


@pytest.mark.parametrize("token", [None, "guess", "key"])
def test_metrics_are_for_who_has_the_token(watched: Site, token: str | None) -> None:
    answer = Caller(watched.port, watched.key if token == "key" else token).get("/metrics")

    assert (answer.status, answer.code, answer.headers["www-authenticate"]) == (401, "metrics_token_invalid", 'Bearer realm="farebox"')
    assert b"farebox_requests" not in answer.body


def test_a_call_is_traced_when_its_caller_asks_for_it(watched: Site, collector: Collector | None) -> None:
    if collector is None:
        pytest.skip("the extra otel is not installed")
    caller = Caller(watched.port, watched.key)
    caller.predict()
    traced = caller.predict(traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    refused = caller.predict({"input_data": 7}, traceparent="00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-00f067aa0ba902b7-01")
    assert (traced.status, refused.status) == (200, 422)

    spans = collector.wait_for(8)

    whole = [span for span in spans if span.name == "predict"]
    assert [span.trace_id.hex()[:4] for span in whole] == ["4bf9", "aaaa"]  # The first call asked for none.
    assert attributes_of(whole[0]) == {
        "farebox.request_id": traced.headers["request-id"],
        "farebox.outcome": "answered",
        "farebox.model": "farebox/sentiment",
        "farebox.version": 1,
        "farebox.units": traced.json()["usage"]["units"],
        "http.response.status_code": 200,
    }
    stages = [span.name for span in spans if span.parent_span_id == whole[0].span_id]
    assert stages == ["auth", "limit", "queue", "infer", "settle"]
    assert attributes_of(whole[1])["farebox.outcome"] == "refused"


def test_a_probe_is_asked_by_get(watched: Site) -> None:
    answer = Caller(watched.port, TOKEN).post("/metrics", {})

    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_site_without_workers_is_alive_and_not_ready(watched: Site) -> None:
    def ready() -> Answer:
        return Caller(watched.port, None).get("/readyz")

    assert ready().json() == {"status": "ready", "checks": dict.fromkeys(("database", "control_data", "workers", "pages"), "ok")}
    restarts = scrape(watched)["farebox_worker_restarts_total",]
    deadline = time.monotonic() + 30
    while (answer := ready()).status == 200:  # They come back within half a second: look until we meet a gap.
        assert time.monotonic() < deadline
        for pid in watched.worker_pids():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)

    assert answer.status == 503
    assert answer.json()["checks"] == {"database": "ok", "control_data": "ok", "workers": "No inference worker is ready.", "pages": "ok"}
    assert Caller(watched.port, None).get("/healthz").json() == {"status": "ok"}
    watched.wait_until_healthy(timeout_s=30)
    assert scrape(watched)["farebox_worker_restarts_total",] >= restarts + 2
