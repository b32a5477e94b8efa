"""The response cache against a running site: whose answers, at which price, and never a stranger's."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.contract.conftest import TensorSite
from tests.contract.stock import post
from tests.flows.calls import Answer, Caller
from tests.flows.server import ROOT, Site

PREDICT = "/v1/models/acme/linear/predict"


def run_rules(site: Site, *lines: str) -> None:
    """Run the marketplace's own rules beside the running site, as its pages would."""
    head = (
        "import django; django.setup()\nfrom marketplace.models import Organization\nfrom marketplace.tenants import set_response_cache\n"
    )
    environment = {**os.environ, "VAR_DIR": str(site.var_dir), "DJANGO_SETTINGS_MODULE": "marketplace.settings", "PYTHONPATH": str(ROOT)}
    code = head + "\n".join(lines)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    time.sleep(1.0)  # What changed is known everywhere within a second.


def switch(site: Site, slug: str, *, on: bool) -> None:
    """Turn an organization's cache on or off."""
    run_rules(site, f"set_response_cache(Organization.objects.get(slug={slug!r}), enabled={on}, by='test')")


@pytest.fixture(scope="module")
def cached(tensor_site: TensorSite) -> Iterator[TensorSite]:
    """The site with the demo organization's cache on, and a cached price of 100 nanos for `acme/linear`."""
    shape = "Shape(unit_nanos=1000, cached_unit_nanos=100)"
    run_rules(
        tensor_site.site,
        "from billing.prices import set_price",
        "from billing.pricing import Shape",
        "from marketplace.changes import model_changed",
        "from marketplace.models import CatalogueModel",
        f"set_price(sku='acme/linear@1', unit='row', shape={shape})",
        "model_changed(CatalogueModel.objects.get(owner__slug='acme', name='linear'))",
        "set_response_cache(Organization.objects.get(slug='demo'), enabled=True, by='test')",
    )
    yield tensor_site
    switch(tensor_site.site, "demo", on=False)


def predict(site: TensorSite, a: float, *, key: str | None = None, headers: dict[str, str] | None = None) -> Answer:
    """Call `acme/linear` with one row."""
    return Caller(site.site.port, key or site.key).post(PREDICT, {"input_data": {"x": [[a, 0.0]]}}, headers=headers)


def fresh() -> float:
    """Return a number that nobody sent before."""
    return float(uuid.uuid4().int % 2**20)


def test_the_same_input_is_found_and_costs_the_cached_price(cached: TensorSite) -> None:
    number, before = fresh(), cached.site.charged()

    first, second = predict(cached, number), predict(cached, number)

    assert [answer.headers["farebox-cache"] for answer in (first, second)] == ["miss", "hit"]
    assert first.json()["prediction"] == second.json()["prediction"] == {"score": [[2 * number]]}
    assert [answer.headers["farebox-cost"] for answer in (first, second)] == ["0.000001000", "0.000000100"]
    assert [answer.json()["usage"]["cost"] for answer in (first, second)] == ["0.000001000", "0.000000100"]
    assert cached.site.charged() - before == 1100
    assert first.json()["id"] != second.json()["id"]  # Two calls, two usage events.


def test_another_input_is_not_found(cached: TensorSite) -> None:
    predict(cached, number := fresh())

    assert predict(cached, number + 0.5).headers["farebox-cache"] == "miss"


def test_x_max_cost_is_held_against_what_a_hit_costs(cached: TensorSite) -> None:
    number, cap = fresh(), {"X-Max-Cost": "0.0000005"}

    assert predict(cached, number, headers=cap).status == 402
    predict(cached, number)

    assert predict(cached, number, headers=cap).status == 200


def test_no_other_organization_is_answered_from_it(cached: TensorSite) -> None:
    number = fresh()
    predict(cached, number)

    off = predict(cached, number, key=cached.their_key)
    switch(cached.site, "other", on=True)
    on = predict(cached, number, key=cached.their_key)
    switch(cached.site, "other", on=False)

    assert (off.status, "farebox-cache" in off.headers) == (200, False)
    assert (on.headers["farebox-cache"], on.headers["farebox-cost"]) == ("miss", "0.000001000")


def test_a_test_keys_free_runs_make_nothing_cheaper(cached: TensorSite) -> None:
    key = cached.site.issue_key(name="free", livemode=False)
    number = fresh()

    free = [predict(cached, number, key=key["secret"]) for _ in range(2)]

    assert [answer.headers["farebox-cache"] for answer in free] == ["miss", "hit"]
    assert predict(cached, number).headers["farebox-cache"] == "miss"


def test_both_wires_share_a_pipelines_answers(cached: TensorSite) -> None:
    text = f"a film {fresh():.0f}"
    body = f'{{"inputs": [{{"name": "input_data", "shape": [1], "datatype": "BYTES", "data": ["{text}"]}}]}}'.encode()

    native = Caller(cached.site.port, cached.key).predict({"input_data": text})
    oip = post(cached.site, "farebox/sentiment", body, None)

    assert (native.headers["farebox-cache"], oip.headers["farebox-cache"]) == ("miss", "hit")
    # The starter has no cached price: a hit costs as any.
    assert oip.headers["farebox-cost"] == native.headers["farebox-cost"]
    scores = dict(zip(("negative", "positive"), oip.json()["outputs"][1]["data"], strict=True))
    assert scores == pytest.approx({entry["label"]: entry["score"] for entry in native.json()["prediction"][0]})


def test_turning_it_off_drops_what_was_kept(cached: TensorSite) -> None:
    predict(cached, number := fresh())
    switch(cached.site, "demo", on=False)
    off = predict(cached, number)
    switch(cached.site, "demo", on=True)

    assert "farebox-cache" not in off.headers
    assert predict(cached, number).headers["farebox-cache"] == "miss"


def test_a_repeated_request_is_replayed_not_found(cached: TensorSite) -> None:
    number = fresh()
    first = predict(cached, number, headers={"Idempotency-Key": f"k{number}"})
    before = cached.site.charged()

    again = predict(cached, number, headers={"Idempotency-Key": f"k{number}"})

    assert (again.body, again.headers["farebox-cache"]) == (first.body, "miss")
    assert cached.site.charged() == before
