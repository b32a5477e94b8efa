"""Plans through HTTP: a hard quota under many callers, what gateways are told, and what a plan leaves of the price."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.flows.calls import Answer, Caller, at_once, statuses
from tests.flows.raw import run_on
from tests.flows.server import Site, start_site

# A full month of a plan, for the demo organization: what it includes must not depend on today's date.
_SUBSCRIBE = """
import json
from django.db import transaction
from django.utils import timezone
from billing import plans, subscriptions
from billing.periods import month_of
from billing.pricing import Shape
from marketplace.changes import organization_changed
from marketplace.models import Organization
facts = json.loads({facts!r})
organization = Organization.objects.get(slug="demo")
with transaction.atomic():
    overage = facts.pop("overage_nanos", None)
    overage = None if overage is None else Shape(unit_nanos=overage)
    plan = plans.make_plan(overage=overage, scope="farebox/sentiment", unit="token", by="test", name=facts["code"], **facts)
    subscriptions.subscribe(organization.account, plan, by="test", now=month_of(timezone.now())[0])
    organization_changed(organization)
"""
_CHECK = "from billing.books import check_books; differences = check_books(); assert not differences, differences"
FEE_NANOS = 1_000_000_000


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A site of this module's own: its plans would change what other flows pay."""
    with start_site() as running:
        yield running


def subscribe(site: Site, **facts: Any) -> None:
    run_on(site, _SUBSCRIBE.format(facts=json.dumps(facts)))
    time.sleep(1.0)  # Within this every gateway knows.


def test_a_hard_quota_of_100_serves_exactly_100_of_64_callers(site: Site) -> None:
    caller = Caller(site.port, site.key)
    assert caller.predict({"input_data": "good"}).headers["farebox-cost"] == "0.000000200"
    subscribe(site, code="hundred", fee_nanos=FEE_NANOS, included_units=100, quota="hard")
    before = site.charged()
    callers = [Caller(site.port, site.key) for _ in range(64)]

    answers: list[Answer] = [
        answer
        for answers in at_once(64, lambda index: [callers[index].predict({"input_data": "good"}) for _ in range(4)])
        for answer in answers
    ]

    assert statuses(answers) == {200: 100, 402: 156}
    assert site.charged() == before  # The fee covers them.
    assert {answer.headers["farebox-cost"] for answer in answers if answer.status == 200} == {"0.000000000"}
    refused = next(answer for answer in answers if answer.status == 402).json()
    assert (refused["code"], refused["policy"], refused["limit"], refused["asked"]) == ("quota_exceeded", "plan_quota", 100, 1)
    assert refused["raise_at"].endswith("/billing/plans/")
    assert refused["resets_at"].endswith("-01T00:00:00Z")
    run_on(site, _CHECK)


def test_a_change_to_a_larger_plan_lets_calls_in_again_within_a_second(site: Site) -> None:
    caller = Caller(site.port, site.key)
    assert caller.predict({"input_data": "good"}).code == "quota_exceeded"

    subscribe(site, code="more", fee_nanos=2 * FEE_NANOS, included_units=100, quota="soft", overage_nanos=7, rate_per_minute=120)

    answers = [caller.predict({"input_data": "good"}) for _ in range(110)]
    assert statuses(answers) == {200: 110}
    costs = [answer.headers["farebox-cost"] for answer in answers]
    assert costs == ["0.000000000"] * 100 + ["0.000000007"] * 10
    refused = [caller.predict({"input_data": "good"}) for _ in range(20)][-1].json()
    assert (refused["code"], refused["policy"], refused["limit"]) == ("rate_limited", "plan", 120)
    run_on(site, _CHECK)


def test_a_test_key_uses_no_quota(site: Site) -> None:
    key = site.issue_key(name="test", livemode=False)

    assert Caller(site.port, key["secret"]).predict().status == 200
