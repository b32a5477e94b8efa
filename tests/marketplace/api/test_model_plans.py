"""Tests of `/v1/models/{owner}/{name}/plans`: what a provider offers by the month, through a key."""

from collections.abc import Callable
from typing import Any

import pytest

from billing.ids import public_id, uuid7
from billing.ledger import grant_credit
from billing.models import Plan, Price
from billing.money import Nanos
from billing.plans import make_plan
from billing.subscriptions import subscribe
from marketplace.models import CatalogueModel, Organization
from tests.marketplace.api.conftest import Api
from tests.marketplace.uploaded import a_model

pytestmark = pytest.mark.django_db
PLANS = "/v1/models/acme/relu/plans"
TEAM = {"name": "Team", "code": "team", "fee": "49", "unit": "row", "included_units": 1000, "quota": "hard"}
TIERS = [{"up_to": 100, "unit_price": "0.002", "flat_price": "1"}, {"up_to": None, "unit_price": "0.001"}]


@pytest.fixture
def model(organization: Organization) -> CatalogueModel:
    return a_model(organization)


def test_a_provider_offers_shows_and_retires_a_plan(api: Api, model: CatalogueModel, other_organization: Organization) -> None:
    made = api.post(PLANS, TEAM)
    plan = made.json()
    grant_credit(other_organization.account, Nanos(10**11), kind="operator", reference="test:plan", by="test")
    subscribe(other_organization.account, Plan.objects.get(), by="test")

    assert made.status_code == 201, made.content
    told = {name: plan[name] for name in ("object", "sku", "model", "code", "fee", "quota", "overage_price", "subscribers", "retired_at")}
    assert told == {
        "object": "plan", "sku": "plan:acme/relu:team", "model": "acme/relu", "code": "team", "fee": "49.000000000", "quota": "hard",
        "overage_price": None, "subscribers": 0, "retired_at": None,
    }  # fmt: skip
    assert api.get("/v1/plans").json()["data"] == [{name: plan[name] for name in api.get("/v1/plans").json()["data"][0]}]
    assert api.get(f"{PLANS}/{plan['id']}").json()["subscribers"] == 1
    first = api.post(f"{PLANS}/{plan['id']}/retire").json()
    assert first["retired_at"] is not None
    assert api.post(f"{PLANS}/{plan['id']}/retire").json() == first  # Repeating it changes nothing.
    assert [(row["code"], row["retired_at"]) for row in api.get(PLANS).json()["data"]] == [("team", first["retired_at"])]
    assert api.get("/v1/plans").json()["data"] == []
    deeds = [(row.action, row.target, row.by[:4]) for row in model.owner.audit_events.filter(action__startswith="plan.").order_by("pk")]
    assert deeds == [("plan.offered", "plan:acme/relu:team", "key:"), ("plan.retired", "plan:acme/relu:team", "key:")]


def test_an_overage_price_has_any_shape_and_comes_back_as_it_was_sent(api: Api, model: CatalogueModel) -> None:
    sent = {"scheme": "graduated", "tiers": TIERS, "cached_unit_price": "0"}

    shown = api.post(PLANS, {**TEAM, "quota": "soft", "overage_price": sent}).json()

    assert shown["overage_price"] == {
        "scheme": "graduated", "unit_price": "0.000000000", "package_units": 1, "cached_unit_price": "0.000000000",
        "tiers": [
            {"up_to": 100, "unit_price": "0.002000000", "flat_price": "1.000000000"},
            {"up_to": None, "unit_price": "0.001000000", "flat_price": "0.000000000"},
        ],
    }  # fmt: skip
    assert "0.002" in shown["overage"]


def test_a_plan_that_replaces_another_retires_it_in_the_same_step(api: Api, model: CatalogueModel) -> None:
    old = api.post(PLANS, TEAM).json()

    refused = api.post(PLANS, {**TEAM, "replaces": old["id"]})  # The code is taken.
    assert (refused.status_code, refused.json()["code"]) == (422, "plan_invalid")
    assert api.get(f"{PLANS}/{old['id']}").json()["retired_at"] is None
    new = api.post(PLANS, {**TEAM, "code": "team-2", "fee": "59", "replaces": old["id"]}).json()

    assert [(row["id"], row["retired_at"] is None) for row in api.get(PLANS).json()["data"]] == [(new["id"], True), (old["id"], False)]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"included_units": None}, 422, "plan_invalid"),  # A hard quota of no number.
        ({"quota": "soft"}, 422, "plan_invalid"),  # Nothing says what is beyond.
        ({"overage_price": {"unit_price": "1"}}, 422, "plan_invalid"),  # Nothing is beyond.
        ({"fee": "-1"}, 400, "request_malformed"),
        ({"code": "no blanks"}, 422, "plan_invalid"),
        ({"quota": "soft", "overage_price": {"unit_price": "-1"}}, 400, "request_malformed"),
        ({"quota": "soft", "overage_price": {"scheme": "volume", "tiers": TIERS[:1]}}, 422, "plan_invalid"),
        ({"unit": "month"}, 422, "plan_invalid"),
        ({"unit": "parsec"}, 400, "request_malformed"),
        ({"fee": 49}, 400, "request_malformed"),
        ({"quota": "soft", "overage_price": {"free_units": 5}}, 400, "request_malformed"),
        ({"currency": "usd"}, 400, "request_malformed"),
    ],
)
def test_what_makes_no_plan_is_refused_and_nothing_made(api: Api, model: CatalogueModel, change: Any, status: int, code: str) -> None:
    reply = api.post(PLANS, {**TEAM, **change})

    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert not Plan.objects.exists()
    assert not Price.objects.filter(sku__startswith="plan:").exists()


def test_scopes_and_lists_of_models_hold(make_api: Callable[..., Api], model: CatalogueModel) -> None:
    plan = make_plan(scope=model.path, code="p", name="P", fee_nanos=0, unit="row", included_units=9, quota="hard", by="test")
    reader = make_api(kind="rk", scopes=("models:read",))
    stranger = make_api(allowed_models=("acme/other",))

    assert reader.get(PLANS).status_code == 200
    assert reader.post(PLANS, TEAM).json()["code"] == "scope_missing"
    assert reader.post(f"{PLANS}/{public_id('plan', plan.pk)}/retire").json()["code"] == "scope_missing"
    assert stranger.get(PLANS).json()["code"] == "model_not_found"
    assert stranger.post(PLANS, TEAM).json()["code"] == "model_not_found"
    assert list(Plan.objects.filter(retired_at__isnull=True)) == [plan]


def test_no_foreign_plan_is_replaced_shown_or_retired(api: Api, model: CatalogueModel, other_organization: Organization) -> None:
    theirs = CatalogueModel.objects.create(owner=other_organization, name="open", title="O", summary="", task="x", public=True)
    plan = make_plan(scope=theirs.path, code="p", name="P", fee_nanos=0, unit="row", included_units=9, quota="hard", by="test")
    identity = public_id("plan", plan.pk)

    replies = [
        [api.get(f"{PLANS}/{one}"), api.post(f"{PLANS}/{one}/retire"), api.post(PLANS, {**TEAM, "replaces": one})]
        for one in (identity, public_id("plan", uuid7()))
    ]

    assert [[(reply.status_code, reply.json()["code"]) for reply in row] for row in replies] == [[(404, "not_found")] * 3] * 2
    assert list(Plan.objects.filter(retired_at__isnull=True)) == [plan]
