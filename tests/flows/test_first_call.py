"""The main job, end to end: start the site, paste the curl it prints, be metered, see the bill."""

import json
import re
import shutil
import subprocess
from decimal import Decimal

import pytest

from billing.ids import parse_public_id
from billing.money import parse_amount
from tests.flows.calls import Caller
from tests.flows.server import Site

TEXTS = ["a moving, funny film", "two hours I want back"]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_printed_curl_works_when_pasted(site: Site) -> None:
    printed = (site.var_dir / "site.log").read_text()
    command = re.search(r"^curl .*?\]\}'$", printed, re.MULTILINE | re.DOTALL)
    assert command, printed

    run = subprocess.run(["sh", "-c", command[0]], capture_output=True, text=True, timeout=30, check=True)

    first, second = json.loads(run.stdout)["prediction"]
    assert (first[0]["label"], second[0]["label"]) == ("positive", "negative")


def test_an_answered_call_tells_its_cost_and_is_one_usage_event(site: Site) -> None:
    events = "SELECT COUNT(*) FROM billing_usageevent"
    before, charged = site.query(events), site.charged()

    answer = Caller(site.port, site.key).predict({"input_data": TEXTS})

    assert answer.status == 200
    usage = answer.json()["usage"]
    # Ten words at $0.20 per million tokens (4 and 5 words, and a comma that counts or not, as the tokenizer says).
    assert Decimal(usage["cost"]) == usage["units"] * Decimal("0.0000002")
    assert answer.headers["farebox-units"] == str(usage["units"])
    assert answer.headers["farebox-cost"] == usage["cost"]
    assert answer.headers["farebox-currency"] == usage["currency"] == "usd"
    assert {"farebox-model-version", "farebox-model-digest", "farebox-provider", "ratelimit", "ratelimit-policy"} <= set(answer.headers)
    stages = [part.split(";")[0].strip() for part in answer.headers["server-timing"].split(",")]
    assert stages == ["auth", "limit", "queue", "infer", "settle"]
    # Durable before the first byte: nothing to wait for.
    assert site.query(events) == before + 1
    assert site.charged() - charged == usage["units"] * 200
    event = parse_public_id("req", answer.headers["request-id"])
    assert event
    assert site.query("SELECT units FROM billing_usageevent WHERE id = ?", event.hex) == usage["units"]


def test_the_invoices_lines_equal_the_sum_of_the_events(site: Site) -> None:
    caller = Caller(site.port, site.key)
    for number in range(1, 8):
        assert caller.predict({"input_data": "word " * number}).status == 200

    invoice = caller.get("/v1/invoices/upcoming").json()

    assert sum(parse_amount(line["charge"]) for line in invoice["lines"]) == site.charged()
    for line in invoice["lines"]:
        by_sku = "FROM billing_usageevent WHERE sku = ? AND charge_nanos > 0"
        assert line["units"] == site.query(f"SELECT SUM(units) {by_sku}", line["sku"])
        assert line["calls"] == site.query(f"SELECT COUNT(*) {by_sku}", line["sku"])
        assert parse_amount(line["charge"]) == site.query(f"SELECT SUM(charge_nanos) {by_sku}", line["sku"])


def test_the_balance_falls_by_what_the_calls_cost(site: Site) -> None:
    caller = Caller(site.port, site.key)
    before = parse_amount(caller.get("/v1/balance").json()["spent"])

    cost = parse_amount(caller.predict().json()["usage"]["cost"])

    assert parse_amount(caller.get("/v1/balance").json()["spent"]) - before == cost
