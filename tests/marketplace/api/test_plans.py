"""Tests of `/v1/plans` and `/v1/subscriptions`."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from billing.ids import public_id, uuid7
from billing.ledger import balance, grant_credit
from billing.models import Budget, Plan, Subscription, UsageEvent
from billing.money import Nanos, parse_amount
from billing.plans import make_plan
from marketplace.keys import KeySettings, issue_key
from marketplace.models import CatalogueModel, Organization, WebhookMessage
from marketplace.plans import renew_due
from marketplace.webhooks.endpoints import register_endpoint

pytestmark = pytest.mark.django_db


@pytest.fixture
def plans(organization: Organization, other_organization: Organization) -> list[Plan]:
    """Two plans of the catalogue, and one of somebody's private model."""
    grant_credit(organization.account, Nanos(10**10), kind="operator", reference="test:api", by="test")
    private = CatalogueModel.objects.create(owner=other_organization, name="private", title="P", summary="", task="x")
    return [
        make_plan(scope=scope, code=code, name=code, fee_nanos=fee, unit="call", included_units=100, quota="hard", by="test")
        for scope, code, fee in (("*", "small", 10**9), ("*", "large", 4 * 10**9), (private.path, "theirs", 1))
    ]


class Api:
    """The organization's live key."""

    def __init__(self, organization: Organization) -> None:
        _, secret = issue_key(organization=organization, name="api", settings=KeySettings(), by="test")
        self._client = Client(headers={"Authorization": f"Bearer {secret}"})

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request."""
        return self._client.generic(method, path, json.dumps(body or {}), "application/json")


@pytest.fixture
def api(organization: Organization) -> Api:
    """It."""
    return Api(organization)


def test_plans_are_listed_quoted_begun_changed_and_cancelled(api: Api, plans: list[Plan], organization: Organization) -> None:
    small, large, _ = (public_id("plan", plan.pk) for plan in plans)

    listed = api.ask("GET", "/v1/plans").json()["data"]
    quote = api.ask("GET", f"/v1/plans/{small}/quote").json()
    begun = api.ask("POST", "/v1/subscriptions", {"plan": small, "most_due": quote["due"], "as_of": quote["as_of"]})
    change = api.ask("GET", f"/v1/plans/{large}/quote").json()
    changed = api.ask("POST", "/v1/subscriptions", {"plan": large, "as_of": change["as_of"]})
    cancelled = api.ask("DELETE", f"/v1/subscriptions/{changed.json()['id']}").json()
    resumed = api.ask("POST", f"/v1/subscriptions/{changed.json()['id']}/resume").json()

    assert [(plan["id"], plan["model"], plan["fee"]) for plan in listed] == [(small, None, "1.000000000"), (large, None, "4.000000000")]
    assert (quote["replaces"], quote["credit"], quote["next_fee"]) == (None, "0.000000000", "1.000000000")
    assert (begun.status_code, begun.json()["state"], begun.json()["this_month"]["used_units"]) == (201, "active", 0)
    assert change["replaces"] == begun.json()["id"]
    assert (changed.status_code, changed.json()["previous"]) == (201, begun.json()["id"])
    assert cancelled["ends_at"] == cancelled["paid_until"]
    assert resumed["ends_at"] is None
    ended = api.ask("GET", f"/v1/subscriptions/{begun.json()['id']}").json()
    assert (ended["state"], ended["reason"], ended["this_month"]) == ("ended", "changed", None)
    assert len(api.ask("GET", "/v1/subscriptions").json()["data"]) == 2
    due = sum(parse_amount(quote[name]) for quote, name in ((quote, "due"), (change, "charge"))) - parse_amount(change["credit"])
    assert balance(organization.account).available == 10**10 - due  # What was quoted, to the nano.


def test_webhooks_hold_the_subscription_as_rest_shows_it(api: Api, plans: list[Plan], organization: Organization, settings: Any) -> None:
    settings.PLAN_GRACE_HOURS = 24 * 40
    register_endpoint(organization, url="https://hooks.example/", events=["*"], description="", by="test")

    identity = api.ask("POST", "/v1/subscriptions", {"plan": public_id("plan", plans[0].pk)}).json()["id"]
    shown = [api.ask("GET", f"/v1/subscriptions/{identity}").json()]
    Subscription.objects.update(paid_until=timezone.now() - timedelta(seconds=1))
    Budget.objects.filter(account=organization.account, subject="account").update(spent_nanos=10**10)
    assert renew_due() == 1
    shown.append(api.ask("GET", f"/v1/subscriptions/{identity}").json())
    Subscription.objects.update(grace_until=timezone.now() - timedelta(seconds=1))
    assert renew_due() == 1
    shown.append(api.ask("GET", f"/v1/subscriptions/{identity}").json())

    told = [json.loads(message.body) for message in WebhookMessage.objects.filter(organization=organization).order_by("pk")]
    assert [body["type"] for body in told] == ["subscription.created", "subscription.unpaid", "subscription.ended"]
    assert [body["data"] for body in told] == shown
    assert [one["state"] for one in shown] == ["active", "unpaid", "ended"]


def test_a_plan_of_a_foreign_private_model_is_absent(api: Api, plans: list[Plan]) -> None:
    replies = [api.ask("POST", "/v1/subscriptions", {"plan": public_id("plan", pk)}) for pk in (plans[2].pk, uuid7())]

    assert [(reply.status_code, reply.json()["code"]) for reply in replies] == [(404, "not_found")] * 2
    assert not Subscription.objects.exists()


def test_a_fee_that_cannot_be_paid_is_402_and_charges_nothing(api: Api, plans: list[Plan], organization: Organization) -> None:
    dear = make_plan(scope="*", code="dear", name="dear", fee_nanos=10**15, unit="call", included_units=1, quota="hard", by="test")

    reply = api.ask("POST", "/v1/subscriptions", {"plan": public_id("plan", dear.pk)})

    assert (reply.status_code, reply.json()["code"]) == (402, "fee_unpaid")
    assert not UsageEvent.objects.exists()


def test_an_account_under_review_begins_no_plan(api: Api, plans: list[Plan], organization: Organization) -> None:
    type(organization.account).objects.filter(pk=organization.account.pk).update(under_review_at=timezone.now())

    reply = api.ask("POST", "/v1/subscriptions", {"plan": public_id("plan", plans[0].pk)})

    assert (reply.status_code, reply.json()["code"]) == (503, "account_under_review")
    assert not UsageEvent.objects.exists()


def test_what_comes_to_more_than_said_is_409(api: Api, plans: list[Plan]) -> None:
    reply = api.ask("POST", "/v1/subscriptions", {"plan": public_id("plan", plans[0].pk), "most_due": "0.000000001"})

    assert (reply.status_code, reply.json()["code"]) == (409, "quote_outdated")
    assert not Subscription.objects.exists()
