"""Budgets that fill up and keys that expire: told once, at the right moment, to the right organization."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from billing.ids import public_id
from billing.ledger import grant_credit
from billing.models import Budget
from billing.money import Nanos
from billing.periods import EPOCH, day_of, month_of
from marketplace.keys import KeySettings, issue_key
from marketplace.models import ApiKey, Cap, ModelVersion, Organization, WebhookMessage
from marketplace.publishing import retire_version
from marketplace.webhooks import notices
from marketplace.webhooks.endpoints import register_endpoint
from marketplace.webhooks.mails import send_budget_mails
from tests.marketplace.web.recorded import record_call


@pytest.fixture(autouse=True)
def _listening(organization: Organization, other_organization: Organization) -> None:
    for listener in (organization, other_organization):
        register_endpoint(listener, url="https://hooks.example/", events=["*"], description="", by="test")


def told(organization: Organization) -> list[tuple[str, Any]]:
    """Return what an organization's endpoints are told of: type and data, in order."""
    messages = WebhookMessage.objects.filter(organization=organization).order_by("pk")
    return [(message.type, json.loads(message.body)["data"]) for message in messages]


def spend(organization: Organization, nanos: int) -> None:
    Budget.objects.filter(account=organization.account, subject="account").update(spent_nanos=nanos)


@pytest.fixture
def budget(organization: Organization) -> Budget:
    grant_credit(organization.account, Nanos(1_000_000), kind="operator", reference="test", by="test")
    budget, _ = Budget.objects.update_or_create(
        account=organization.account, subject="account", starts_at=EPOCH, defaults={"interval": "total", "limit_nanos": 1_000_000}
    )
    return budget


def test_each_threshold_is_told_once(organization: Organization, other_organization: Organization, budget: Budget) -> None:
    for spent in (0, 490_000, 510_000, 700_000, 810_000, 810_000, 1_000_000, 1_000_000):
        spend(organization, spent)
        notices.look()

    events = [(event, data["threshold_percent"]) for event, data in told(organization)]
    assert events == [("budget.threshold", 50), ("budget.threshold", 80), ("budget.exhausted", 100)]
    assert told(other_organization) == []


def test_data_is_the_budget_as_the_rest_api_shows_it(organization: Organization, budget: Budget, live_key: str) -> None:
    spend(organization, 850_000)
    notices.look()

    ((_, data),) = told(organization)
    shown = Client(headers={"Authorization": f"Bearer {live_key}"}).get("/v1/budgets/balance").json()
    assert data == {**shown, "threshold_percent": 80}
    assert (data["object"], data["spent"]) == ("budget", "0.000850000")


def test_a_jump_over_several_thresholds_is_told_as_the_highest(organization: Organization, budget: Budget) -> None:
    spend(organization, 850_000)
    notices.look()
    spend(organization, 900_000)
    notices.look()

    assert [(event, data["threshold_percent"], data["spent"]) for event, data in told(organization)] == [
        ("budget.threshold", 80, "0.000850000")
    ]


def test_after_a_top_up_thresholds_are_told_anew(organization: Organization, budget: Budget) -> None:
    spend(organization, 1_000_000)
    notices.look()
    Budget.objects.filter(pk=budget.pk).update(limit_nanos=4_000_000)
    notices.look()
    spend(organization, 2_100_000)
    notices.look()

    assert [event for event, _ in told(organization)] == ["budget.exhausted", "budget.threshold"]


def test_a_keys_cap_names_the_key_and_when_it_starts_anew(organization: Organization) -> None:
    key, _ = issue_key(organization=organization, name="capped", settings=KeySettings(monthly_cap_nanos=1000), by="test")
    starts_at, ends_at = month_of(timezone.now())
    Budget.objects.create(
        account=organization.account, subject=key.budget_subject, interval="month", starts_at=starts_at, ends_at=ends_at, limit_nanos=1000, spent_nanos=800
    )  # fmt: skip

    notices.look()

    ((event, data),) = told(organization)
    assert (event, data["holder"], data["key"], data["threshold_percent"]) == ("budget.threshold", "key", public_id("key", key.pk), 80)
    assert data["resets_at"] == ends_at.isoformat().replace("+00:00", "Z")


def test_a_budget_that_refuses_calls_is_exhausted_though_a_little_is_left(
    organization: Organization, budget: Budget, sentiment: ModelVersion
) -> None:
    key, _ = issue_key(organization=organization, name="k", settings=KeySettings(), by="test")
    spend(organization, 400_000)
    record_call(key, sentiment, status=402, code="budget_exceeded")

    notices.look()
    notices.look()

    assert [event for event, _ in told(organization)] == ["budget.exhausted"]


def test_a_key_is_told_of_a_week_before_it_expires_and_once(organization: Organization) -> None:
    soon = timezone.now() + timedelta(days=6)
    key, _ = issue_key(organization=organization, name="ending", settings=KeySettings(expires_at=soon), by="test")
    issue_key(organization=organization, name="later", settings=KeySettings(expires_at=soon + timedelta(days=2)), by="test")
    issue_key(organization=organization, name="lasting", settings=KeySettings(), by="test")
    revoked, _ = issue_key(organization=organization, name="revoked", settings=KeySettings(expires_at=soon), by="test")
    ApiKey.objects.filter(pk=revoked.pk).update(revoked_at=timezone.now())

    notices.look()
    notices.look()

    assert [(event, data["id"]) for event, data in told(organization)] == [("key.expiring", public_id("key", key.pk))]


def test_a_retired_version_is_told_to_its_owner_and_its_callers_alone(
    organization: Organization, other_organization: Organization, sentiment: ModelVersion
) -> None:
    house = sentiment.model.owner
    register_endpoint(house, url="https://house.example/", events=["*"], description="", by="test")
    key, _ = issue_key(organization=organization, name="k", settings=KeySettings(), by="test")
    record_call(key, sentiment)

    retire_version(sentiment, reason="Old.", by="test")

    assert [event for event, _ in told(organization)] == ["version.retired"]
    assert [event for event, _ in told(house)] == ["version.retired"]
    assert told(other_organization) == []


def test_owners_are_mailed_once_of_each_threshold(organization: Organization, budget: Budget, mailoutbox: list[Any]) -> None:
    for spent in (510_000, 600_000, 1_000_000):
        spend(organization, spent)
        notices.look()
        send_budget_mails()
        send_budget_mails()

    assert [(mail.subject, mail.to) for mail in mailoutbox] == [
        ("acme: 50 % of a budget is used", ["ada@example.com"]),
        ("acme: a budget is used up", ["ada@example.com"]),
    ]
    assert "0.000510000 of 0.001000000 USD is spent." in mailoutbox[0].body
    assert "/budgets/" in mailoutbox[0].body


def test_a_budgets_own_thresholds_count(organization: Organization, budget: Budget, mailoutbox: list[Any]) -> None:
    Cap.objects.create(organization=organization, subject="account", thresholds=[10, 95])
    Cap.objects.create(organization=organization, subject="organization:month", limit_nanos=1_000, thresholds=[])
    starts_at, ends_at = month_of(timezone.now())
    Budget.objects.create(
        account=organization.account, subject="organization:month", interval="month", starts_at=starts_at, ends_at=ends_at,
        limit_nanos=1_000, spent_nanos=1_000,
    )  # fmt: skip
    for spent in (90_000, 110_000, 850_000, 950_000):
        spend(organization, spent)
        notices.look()
    send_budget_mails()

    assert [data["threshold_percent"] for _, data in told(organization)] == [10, 95]
    assert len(mailoutbox) == 2


def test_an_organizations_cap_is_told_each_period(organization: Organization, mailoutbox: list[Any]) -> None:
    starts_at, ends_at = day_of(timezone.now())
    for earlier in (1, 0):
        shift = timedelta(days=earlier)
        Budget.objects.create(
            account=organization.account, subject="organization:day", interval="day", starts_at=starts_at - shift,
            ends_at=ends_at - shift, limit_nanos=1_000, spent_nanos=800,
        )  # fmt: skip
    notices.look()
    notices.look()

    assert [(event, data["holder"], data["interval"]) for event, data in told(organization)] == [
        ("budget.threshold", "organization", "day")
    ]
    assert send_budget_mails() == 1
    assert "a cap of the organization" in mailoutbox[0].body
