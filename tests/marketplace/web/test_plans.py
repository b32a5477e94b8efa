"""Tests of the plans' pages: compare, confirm what is shown, cancel; and the provider's own."""

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.ids import public_id
from billing.ledger import balance, grant_credit
from billing.models import EVERYTHING, Account, Plan, Subscription, UsageEvent, UsageRefund
from billing.money import Nanos
from billing.plans import make_plan
from billing.pricing import Shape
from billing.subscriptions import quote
from marketplace.models import AuditEvent, CatalogueModel, ControlChange, ModelVersion, Organization

pytestmark = pytest.mark.django_db


@pytest.fixture
def account(organization: Organization) -> Account:
    """The member's, with 20 dollars."""
    grant_credit(organization.account, Nanos(20 * 10**9), kind="operator", reference=f"test:{organization.slug}", by="test")
    return organization.account


def plan_of(scope: str, *, code: str = "team", fee_nanos: int = 3 * 10**9, **facts: Any) -> Plan:
    facts = {"unit": "token", "included_units": 1000, "quota": "hard", **facts}
    return make_plan(scope=scope, code=code, name=code.title(), fee_nanos=fee_nanos, by="test", **facts)


def page(name: str, *place: object) -> str:
    return reverse(name, args=place)


def confirm(member: Client, plan: Plan) -> Any:
    """Send the confirmation as it was shown."""
    address = page("plan_confirm", public_id("plan", plan.pk))
    shown = member.get(address).content.decode()
    found = re.search(r'name="due" value="(-?\d+)"', shown)
    assert found, shown
    moment = re.search(r'name="as_of" value="([^"]+)"', shown)
    assert moment
    return member.post(address, {"due": found[1], "as_of": moment[1]})


def test_a_models_page_compares_its_plans_and_those_of_the_catalogue(client: Client, sentiment: ModelVersion) -> None:
    plan_of(sentiment.model.path, quota="soft", overage=Shape(unit_nanos=500))
    plan_of(EVERYTHING, code="everything", rate_per_minute=6000)

    shown = client.get(page("model", sentiment.model.owner.slug, sentiment.model.name)).content.decode()

    for words in ("Team", "$3.00", "1,000 tokens", "$0.50 per million tokens", "Everything", "Whole catalogue", "refused", "6,000"):
        assert words in shown, words


def test_a_plan_is_shown_with_its_cost_and_begun_by_a_second_click(member: Client, account: Account, sentiment: ModelVersion) -> None:
    plan = plan_of(sentiment.model.path)
    offer = quote(account, plan)
    before = ControlChange.objects.count()

    shown = member.get(page("plan_confirm", public_id("plan", plan.pk))).content.decode()
    assert not Subscription.objects.exists()
    sent = confirm(member, plan)

    assert "Leaves the balance now" in shown
    assert (sent.status_code, sent["Location"]) == (302, page("plans"))
    row = Subscription.objects.get()
    charged = UsageEvent.objects.get().charge_nanos
    assert 0 < charged <= offer.charge_nanos
    assert (row.account, row.plan) == (account, plan)
    assert balance(account).available == 20 * 10**9 - charged
    assert ControlChange.objects.count() == before + 1  # Gateways are told.
    assert AuditEvent.objects.filter(action="subscription.began").exists()
    billing = member.get(page("billing")).content.decode()
    assert "0 of" in billing
    assert '<svg class="bar' in billing


def test_a_change_shows_what_comes_back(member: Client, account: Account, sentiment: ModelVersion) -> None:
    confirm(member, plan_of(sentiment.model.path, fee_nanos=8 * 10**9))
    smaller = plan_of(sentiment.model.path, code="small", fee_nanos=10**9)

    shown = member.get(page("plan_confirm", public_id("plan", smaller.pk))).content.decode()
    sent = confirm(member, smaller)

    assert "Unused part of Team, given back" in shown
    assert "Comes back to the balance" in shown
    assert sent.status_code == 302
    assert UsageRefund.objects.filter(account=account).count() == 1  # And the used part is charged anew.
    assert Subscription.objects.exclude(state="ended").get().plan == smaller


def test_what_comes_to_more_than_was_shown_is_asked_again(member: Client, account: Account, sentiment: ModelVersion) -> None:
    plan = plan_of(sentiment.model.path)

    reply = member.post(page("plan_confirm", public_id("plan", plan.pk)), {"due": "1", "as_of": timezone.now().isoformat()})

    assert reply.status_code == 409
    assert "more by now than what was shown" in reply.content.decode()
    assert not Subscription.objects.exists()
    assert balance(account).available == 20 * 10**9


def test_a_fee_beyond_the_balance_is_refused_with_both_amounts(member: Client, sentiment: ModelVersion) -> None:
    plan = plan_of(sentiment.model.path, fee_nanos=900 * 10**9)

    reply = confirm(member, plan)

    assert reply.status_code == 409
    assert "Top up first" in reply.content.decode()
    assert not UsageEvent.objects.exists()


def test_a_plan_is_cancelled_and_kept(member: Client, account: Account, sentiment: ModelVersion) -> None:
    confirm(member, plan_of(sentiment.model.path))
    row = Subscription.objects.get(account=account)
    identity = public_id("sub", row.pk)

    assert "It is paid until" in member.get(page("subscription_cancel", identity)).content.decode()
    member.post(page("subscription_cancel", identity))
    row.refresh_from_db()
    assert row.ends_at == row.paid_until
    assert "cancelled" in member.get(page("plans")).content.decode()

    member.post(page("subscription_resume", identity))
    row.refresh_from_db()
    assert row.ends_at is None


def test_a_provider_offers_and_retires_plans_of_own_models(member: Client, organization: Organization) -> None:
    model = CatalogueModel.objects.create(owner=organization, name="mine", title="Mine", summary="", task="x", public=True)
    fields = {"name": "Team", "code": "team", "fee": "49", "unit": "call", "included_units": "10000", "quota": "soft", "overage": "0.001"}

    sent = member.post(page("publish_plans", model.name), fields)

    assert sent.status_code == 302
    plan = Plan.objects.get()
    assert (plan.sku, plan.fee_nanos, plan.included_units, plan.quota) == (f"plan:{model.path}:team", 49 * 10**9, 10_000, "soft")
    assert "$0.001 per call" in member.get(page("publish_plans", model.name)).content.decode()
    again = member.post(page("publish_plans", model.name), fields)
    assert (again.status_code, Plan.objects.count()) == (422, 1)
    member.post(page("publish_plan_retire", model.name, public_id("plan", plan.pk)))
    plan.refresh_from_db()
    assert plan.retired_at is not None


def test_a_provider_changes_a_plan_by_another_one_instead_of_it(member: Client, organization: Organization) -> None:
    model = CatalogueModel.objects.create(owner=organization, name="mine", title="Mine", summary="", task="x", public=True)
    plan = make_plan(scope=model.path, code="team", name="Team", fee_nanos=1, unit="call", included_units=9, quota="hard", by="test")
    foreign = make_plan(scope="other/x", code="team", name="Team", fee_nanos=1, unit="call", included_units=9, quota="hard", by="test")
    fields = {"name": "Team", "code": "team-2", "fee": "49", "unit": "call", "included_units": "10000", "quota": "hard"}

    refused = member.post(page("publish_plans", model.name), {**fields, "replaces": public_id("plan", foreign.pk)})
    sent = member.post(page("publish_plans", model.name), {**fields, "replaces": public_id("plan", plan.pk)})

    assert (refused.status_code, sent.status_code) == (422, 302)
    assert set(Plan.objects.filter(retired_at=None).values_list("scope", "code")) == {(model.path, "team-2"), ("other/x", "team")}
