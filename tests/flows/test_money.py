"""Money under concurrency, through HTTP: caps, repeated requests, revoked keys."""

import time
from typing import Any

from tests.flows.calls import PREDICT, Answer, Caller, at_once, statuses
from tests.flows.server import Site

ONE_TOKEN_NANOS = 200  # The starter model's price: $0.20 per million tokens.


def test_a_cap_worth_100_calls_serves_exactly_100_of_64_callers(site: Site) -> None:
    for number in range(3):
        key = site.issue_key(name=f"capped {number}", monthly_cap_nanos=100 * ONE_TOKEN_NANOS)
        callers = [Caller(site.port, key["secret"]) for _ in range(64)]
        before = site.charged()

        def call_four_times(index: int, callers: list[Caller] = callers) -> list[Answer]:
            return [callers[index].predict({"input_data": "good"}) for _ in range(4)]

        answers = [answer for answers in at_once(64, call_four_times) for answer in answers]

        assert statuses(answers) == {200: 100, 402: 156}
        assert site.charged() - before == 100 * ONE_TOKEN_NANOS
        assert site.events_of(key["id"]) == 100
        refused = next(answer for answer in answers if answer.status == 402).json()
        assert (refused["code"], refused["policy"]) == ("budget_exceeded", "monthly_cap")
        assert refused["limit"] == "0.000020000"


def test_50_parallel_duplicates_are_charged_once_and_get_identical_bytes(site: Site) -> None:
    before = site.charged()

    def call_until_answered(_: int) -> Answer:
        caller = Caller(site.port, site.key)
        for _ in range(200):
            answer = caller.predict({"input_data": "good film"}, idempotency_key="the same")
            if answer.status != 409:
                return answer
            assert (answer.code, answer.headers["retry-after"]) == ("idempotency_in_progress", "1")
            time.sleep(0.02)
        raise AssertionError

    answers = at_once(50, call_until_answered)

    assert statuses(answers) == {200: 50}
    assert len({answer.body for answer in answers}) == 1
    assert site.charged() - before == 2 * ONE_TOKEN_NANOS
    assert sum(answer.headers.get("idempotent-replayed") == "true" for answer in answers) == 49


def test_a_repeated_key_with_another_body_is_422_and_charges_nothing(site: Site) -> None:
    caller = Caller(site.port, site.key)
    assert caller.predict({"input_data": "one"}, idempotency_key="reused").status == 200
    before = site.charged()

    answer = caller.predict({"input_data": "two"}, idempotency_key="reused")

    assert (answer.status, answer.code) == (422, "idempotency_key_reused")
    assert site.charged() == before


def test_a_refused_request_does_not_use_up_its_idempotency_key(site: Site) -> None:
    caller = Caller(site.port, site.key)
    assert caller.predict({"input_data": 5}, idempotency_key="second try").status == 422

    assert caller.predict({"input_data": "fine"}, idempotency_key="second try").status == 200


def test_a_revoked_key_fails_within_a_second(site: Site) -> None:
    key = site.issue_key(name="to be revoked")
    caller = Caller(site.port, key["secret"])
    assert caller.predict().status == 200

    site.revoke_key(key["id"])

    time.sleep(1.0)
    answer = caller.predict()
    assert (answer.status, answer.code) == (401, "key_revoked")


def test_a_test_key_is_free_and_recorded(site: Site) -> None:
    key = site.issue_key(name="test", livemode=False)
    before = site.charged()

    answer = Caller(site.port, key["secret"]).predict()

    assert answer.status == 200
    assert answer.json()["usage"]["cost"] == answer.headers["farebox-cost"] == "0.000000000"
    assert site.charged() == before
    assert site.events_of(key["id"]) == 1


def test_an_estimate_charges_nothing_and_tells_what_the_call_then_costs(site: Site) -> None:
    caller = Caller(site.port, site.key)
    before = site.charged()

    estimate = caller.post(PREDICT.replace("predict", "estimate"), {"input_data": ["a moving, funny film"]})

    assert estimate.status == 200
    assert site.charged() == before
    assert estimate.json()["usage"] == caller.predict().json()["usage"]


def test_a_rate_limited_key_is_429_and_told_when_to_come_back(site: Site) -> None:
    key = site.issue_key(name="slow", rate_per_minute=3)
    caller = Caller(site.port, key["secret"])

    answers: list[Any] = [caller.predict() for _ in range(4)]

    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"key";q=3;w=60'
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers[:3]] == ["r=2", "r=1", "r=0"]
    assert 1 <= int(answers[3].headers["retry-after"]) <= 20
    told = answers[3].json()
    assert {name: told[name] for name in ("policy", "limit", "used", "window_s")} == {
        "policy": "key",
        "limit": 3,
        "used": 3,
        "window_s": 60,
    }
    assert 1 <= told["resets_in_s"] <= 20
    assert told["raise_at"].endswith("/keys/")
    assert site.events_of(key["id"]) == 3


def test_a_call_that_is_too_late_is_504_and_not_charged(site: Site) -> None:
    before = site.charged()
    key = site.key

    def call(_: int) -> Answer:
        return Caller(site.port, key).predict({"input_data": ["word " * 400] * 20}, x_timeout_ms="1")

    answers = at_once(8, call)

    assert statuses(answers).keys() <= {200, 504}, answers
    late = [answer for answer in answers if answer.status == 504]
    assert late
    assert {answer.code for answer in late} == {"deadline_exceeded"}
    assert site.charged() - before == sum(answer.json()["usage"]["units"] for answer in answers if answer.status == 200) * ONE_TOKEN_NANOS


def test_rotating_a_key_does_not_refill_its_cap(site: Site) -> None:
    key = site.issue_key(name="rotated", monthly_cap_nanos=3 * ONE_TOKEN_NANOS)
    assert [Caller(site.port, key["secret"]).predict({"input_data": "good"}).status for _ in range(2)] == [200, 200]

    answer = Caller(site.port, site.key).post(f"/v1/keys/{key['id']}/rotate", {"grace": "1h"})

    assert answer.status in {200, 201}, answer.body
    fresh = Caller(site.port, answer.json()["secret"])
    assert [fresh.predict({"input_data": "good"}).status for _ in range(2)] == [200, 402]
    assert Caller(site.port, key["secret"]).predict({"input_data": "good"}).status == 402
