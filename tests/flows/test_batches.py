"""Predictions and batches on a running site: every row once, whatever dies; live calls first."""

import json
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from billing.ids import parse_public_id
from tests.flows.calls import Answer, Caller
from tests.flows.claims import ClaimsOfTheDead
from tests.flows.crowd import assert_books_fold, wait_until_nothing_is_held
from tests.flows.server import Site, start_site

ROWS = 600
KILLS = 6


@pytest.fixture
def own_site() -> Iterator[Site]:
    """A site of the test's own, which it may break."""
    with start_site() as site:
        yield site


def post_batch(caller: Caller, rows: int) -> str:
    """Make a batch; return its address."""
    lines = [json.dumps({"custom_id": f"row-{n}", "input_data": "a moving, funny film " * (n % 8 + 1)}) for n in range(rows)]
    answer = caller.post("/v1/batches?model=farebox/sentiment", raw="\n".join(lines).encode())
    assert answer.status == 201, answer.body
    return answer.headers["location"]


def patiently(ask: Any, *, timeout_s: float = 60) -> Answer:
    """Ask until the site, which may be restarting, answers."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            answer = ask()
        except Exception:  # noqa: BLE001 (http.client's many ways to say that the server is gone)
            answer = None
        if isinstance(answer, Answer) and answer.status < 500:
            return answer
        assert time.monotonic() < deadline
        time.sleep(0.2)


def wait_until_completed(caller: Caller, address: str, *, timeout_s: float) -> dict[str, Any]:
    """Wait for the end of a batch, and return it."""
    deadline = time.monotonic() + timeout_s
    while True:
        batch: dict[str, Any] = patiently(lambda: caller.get(address)).json()
        if batch["status"] == "completed":
            return batch
        assert time.monotonic() < deadline, batch
        time.sleep(0.5)


def result_lines(caller: Caller, address: str) -> list[dict[str, Any]]:
    """Return a batch's results, parsed."""
    return [json.loads(line) for line in caller.get(f"{address}/results").body.splitlines()]


def assert_charged_once_each(site: Site, lines: list[dict[str, Any]]) -> None:
    """Every row that succeeded has its one event, none was refunded, and each cost what its line says."""
    with site.database() as database:
        for line in lines:
            identity = parse_public_id("prd", line["id"])
            assert identity is not None
            charges = database.execute(f"SELECT charge_nanos FROM billing_usageevent WHERE id = '{identity.hex}'").fetchall()
            expected = [(round(float(line["usage"]["cost"]) * 10**9),)] if line["status"] == "succeeded" else []
            assert [tuple(row) for row in charges] == expected, line
        refunds = database.execute(
            "SELECT COUNT(*) FROM billing_usagerefund WHERE event_id IN (SELECT id FROM marketplace_prediction)"
        ).fetchone()[0]
        assert refunds == 0


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_kill_9_of_celery_and_gateway_charges_each_row_once(own_site: Site) -> None:
    site, seed = own_site, random.randrange(10**6)
    print(f"seed {seed}")
    instants, claims = random.Random(seed), ClaimsOfTheDead(site)
    caller = Caller(site.port, site.key)
    address = post_batch(caller, ROWS)

    for number in range(KILLS):
        time.sleep(instants.uniform(0.3, 2.5))
        if number % 2:
            site.kill_gateway()
            site.wait_until_healthy(timeout_s=90)
        else:
            claims.kill_celery()
    claims.end()
    batch = wait_until_completed(caller, address, timeout_s=240)
    lines = result_lines(caller, address)

    assert batch["rows"] == {"total": ROWS, "succeeded": ROWS, "failed": 0, "cancelled": 0}
    assert [line["custom_id"] for line in lines] == [f"row-{n}" for n in range(ROWS)]
    assert_charged_once_each(site, lines)
    with site.database() as database:
        wait_until_nothing_is_held(database, timeout_s=60)
        assert_books_fold(database)


def test_a_prediction_is_accepted_run_and_charged_as_a_live_call(site: Site) -> None:
    caller = Caller(site.port, site.key)
    before = site.charged()
    accepted = caller.predict(prefer="respond-async")
    live = caller.predict()
    deadline = time.monotonic() + 30
    while (done := caller.get(accepted.headers["location"]).json())["status"] in {"queued", "running"}:
        assert time.monotonic() < deadline
        time.sleep(0.2)

    assert (accepted.status, accepted.headers["preference-applied"], done["status"]) == (202, "respond-async", "succeeded")
    assert (done["prediction"], done["usage"]) == (live.json()["prediction"], live.json()["usage"])
    assert site.charged() - before == 2 * round(float(live.headers["farebox-cost"]) * 10**9)


def test_a_repeated_idempotency_key_makes_one_prediction(site: Site) -> None:
    caller = Caller(site.port, site.key)
    before = int(site.query("SELECT COUNT(*) FROM marketplace_prediction"))
    first, second = (caller.predict(prefer="respond-async", idempotency_key="later-1") for _ in range(2))

    assert (first.status, first.body) == (second.status, second.body)
    assert second.headers["idempotent-replayed"] == "true"
    assert int(site.query("SELECT COUNT(*) FROM marketplace_prediction")) == before + 1


def test_what_a_live_call_is_refused_for_is_not_accepted_for_later(site: Site) -> None:
    caller = Caller(site.port, site.key)
    poor = Caller(site.port, site.issue_key(name="poor", monthly_cap_nanos=100)["secret"])
    before = int(site.query("SELECT COUNT(*) FROM marketplace_prediction"))

    assert caller.predict({"input_data": 5}, prefer="respond-async").code == "invalid_input"
    assert caller.predict({"input_data": "a", "webhook": "https://nobody.example/"}, prefer="respond-async").code == "webhook_invalid"
    assert caller.predict(prefer="respond-async", x_max_cost="0.000000001").code == "max_cost_exceeded"
    assert poor.predict(prefer="respond-async").code == "budget_exceeded"
    assert int(site.query("SELECT COUNT(*) FROM marketplace_prediction")) == before


def test_the_inner_door_is_closed_to_strangers(site: Site) -> None:
    caller = Caller(site.port, site.key)

    answers = [caller.post("/internal/predictions", {"within_s": 1, "rows": []}), Caller(site.port, None).post("/internal/predictions", {})]

    assert [(answer.status, answer.code) for answer in answers] == [(404, "not_found")] * 2


def test_a_cancelled_batch_costs_only_what_had_succeeded(site: Site) -> None:
    caller = Caller(site.port, site.key)
    address = post_batch(caller, 5000)  # A fast machine runs 300 a second.
    deadline = time.monotonic() + 30
    while not caller.get(address).json()["rows"]["succeeded"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    cancelled = caller.post(f"{address}/cancel").json()
    time.sleep(2)
    after = caller.get(address).json()

    assert (cancelled["status"], after["status"]) == ("cancelled", "cancelled")
    assert 0 < after["rows"]["succeeded"] < 5000
    assert after["rows"]["succeeded"] + after["rows"]["cancelled"] == 5000
    assert_charged_once_each(site, result_lines(caller, address))


def test_a_capped_batch_pauses_at_exactly_what_it_can_pay_and_goes_on_when_the_cap_is_raised(site: Site) -> None:
    made = site.issue_key(name="capped", monthly_cap_nanos=5_000)  # Ten rows of "a fine film": 3 tokens, 600 nanos.
    caller, owner = Caller(site.port, made["secret"]), Caller(site.port, site.key)
    answer = caller.post("/v1/batches?model=farebox/sentiment", raw=b"\n".join([b'{"input_data": "a fine film"}'] * 20))
    address = answer.headers["location"]
    deadline = time.monotonic() + 30
    while (batch := owner.get(address).json())["status"] != "paused":
        assert time.monotonic() < deadline, batch
        time.sleep(0.3)

    assert (batch["reason"], batch["rows"]["succeeded"], batch["rows"]["failed"], batch["cost"]) == ("budget_exceeded", 8, 0, "0.000004800")
    assert owner.patch(f"/v1/keys/{made['id']}", {"monthly_cap": "1"}).status == 200
    with site.database() as database:  # Rather than wait for a minute.
        database.execute("UPDATE marketplace_batch SET not_before = created_at WHERE status = 'paused'")
    done = wait_until_completed(owner, address, timeout_s=60)
    assert (done["rows"]["succeeded"], done["cost"]) == (20, "0.000012000")


def test_live_calls_are_answered_while_a_batch_runs(site: Site) -> None:
    caller = Caller(site.port, site.key)
    address = post_batch(caller, 400)
    stop = threading.Event()
    answers: list[Answer] = []

    def call() -> None:
        live = Caller(site.port, site.key)
        while not stop.is_set():
            answers.append(live.predict())

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(4)
    stop.set()
    for thread in threads:
        thread.join()

    assert {answer.status for answer in answers} == {200}
    done = wait_until_completed(caller, address, timeout_s=90)
    assert done["rows"]["succeeded"] == 400
