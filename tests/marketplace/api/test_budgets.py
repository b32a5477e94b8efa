"""Budgets over REST: what they show, who may set them, and what reaches the gateways."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.ids import public_id
from billing.ledger import grant_credit
from billing.models import Budget
from billing.money import Nanos
from billing.periods import day_of
from marketplace.keys import rotate_key
from marketplace.models import ApiKey, AuditEvent, Cap, ControlChange, Organization
from marketplace.models.caps import INTERVALS, BudgetName, name_of


def budget_of(key: ApiKey, interval: str) -> str:
    return f"/v1/budgets/{public_id('key', key.pk)}_{interval}"


def test_the_list_has_the_balance_the_organizations_and_the_keys_that_have_one(api: Any, key: ApiKey, organization: Organization) -> None:
    api.patch(budget_of(key, "day"), {"limit": "2.00"})
    Budget.objects.create(
        account=organization.account,
        subject=f"key:{key.cap_id}:day",
        interval="day",
        starts_at=day_of(datetime.now(UTC))[0],
        ends_at=day_of(datetime.now(UTC))[1],
        limit_nanos=2 * 10**9,
        spent_nanos=5 * 10**8,
        leased_nanos=10**8,
    )

    rows = api.get("/v1/budgets").json()["data"]

    own = public_id("key", key.pk)
    assert [row["id"] for row in rows] == ["balance", "organization_day", "organization_month", "organization_total", f"{own}_day"]
    shown = rows[-1]
    assert (shown["limit"], shown["spent"], shown["held"], shown["left"]) == ("2.000000000", "0.500000000", "0.100000000", "1.400000000")
    assert (shown["key"], shown["policy"], shown["interval"]) == (own, "daily_cap", "day")
    assert shown["resets_at"] == day_of(datetime.now(UTC))[1].isoformat().replace("+00:00", "Z")
    assert (rows[1]["limit"], rows[1]["left"], rows[1]["thresholds"]) == (None, None, [50, 80, 100])


@pytest.mark.parametrize("interval", INTERVALS)
def test_a_cap_is_set_told_audited_and_lifted(api: Any, key: ApiKey, organization: Organization, interval: str) -> None:
    for path, holder in ((f"/v1/budgets/organization_{interval}", "organization"), (budget_of(key, interval), "key")):
        told = ControlChange.objects.filter(subject=holder).count()
        audited = AuditEvent.objects.count()

        made = api.patch(path, {"limit": "12.50", "thresholds": [90, 10, 90]})

        assert (made.status_code, made.json()["limit"], made.json()["thresholds"]) == (200, "12.500000000", [10, 90])
        assert ControlChange.objects.filter(subject=holder).count() == told + 1
        assert AuditEvent.objects.count() == audited + 2
        if holder == "organization":
            assert api.patch(path, {"limit": None}).json()["limit"] is None
    key.refresh_from_db()
    assert key.monthly_cap_nanos == (12_500_000_000 if interval == "month" else None)
    assert not Cap.objects.filter(organization=organization, subject__startswith="organization", limit_nanos__isnull=False)


@pytest.mark.parametrize(
    ("budget", "body"),
    [
        ("balance", {"limit": "5"}),
        ("organization_day", {"limit": 5}),
        ("organization_day", {"limit": "-1"}),
        ("organization_day", {"thresholds": [0]}),
        ("organization_day", {"thresholds": [101]}),
        ("organization_day", {"thresholds": list(range(1, 12))}),
        ("organization_day", {"spent": "0"}),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(api: Any, budget: str, body: Any) -> None:
    reply = api.patch(f"/v1/budgets/{budget}", body)

    assert (reply.status_code, reply.json()["code"]) == (400, "request_malformed")
    assert not Cap.objects.exists()


@pytest.mark.parametrize("budget", ["organization_year", "organization", "key_month", "balance_total", "account", "organization_"])
def test_a_budget_that_is_none_is_not_found(api: Any, budget: str) -> None:
    assert api.get(f"/v1/budgets/{budget}").status_code == 404


@pytest.mark.parametrize("interval", INTERVALS)
def test_a_capped_key_lowers_caps_and_raises_none(make_api: Callable[..., Any], organization: Organization, interval: str) -> None:
    capped = make_api()
    own = ApiKey.objects.get(name="Made")
    assert capped.patch(budget_of(own, interval), {"limit": "1.00"}).status_code == 200
    assert capped.patch("/v1/budgets/organization_day", {"limit": "3.00"}).status_code == 200

    raised = [
        capped.patch(budget_of(own, interval), {"limit": "2.00"}),
        capped.patch(budget_of(own, interval), {"limit": None}),
        capped.patch("/v1/budgets/organization_day", {"limit": "4.00"}),
        capped.patch("/v1/budgets/organization_day", {"limit": None}),
        capped.post("/v1/keys", {"name": "free"}),
    ]

    assert [reply.json()["code"] for reply in raised] == ["scope_missing"] * 5
    assert capped.get(budget_of(own, interval)).json()["limit"] == "1.000000000"
    assert capped.get("/v1/budgets/organization_day").json()["limit"] == "3.000000000"
    assert capped.patch(budget_of(own, interval), {"limit": "0.50"}).status_code == 200
    assert not organization.keys.filter(name="free")


def test_a_rotated_key_keeps_its_caps(api: Any, key: ApiKey) -> None:
    api.patch(budget_of(key, "total"), {"limit": "3.00"})

    fresh, _ = rotate_key(key, grace=timedelta(hours=1), by="test")

    assert api.get(budget_of(fresh, "total")).json()["limit"] == "3.000000000"


def test_a_subject_and_its_name_are_one(key: ApiKey) -> None:
    for name in (
        BudgetName("balance", "total"),
        *(BudgetName("organization", interval) for interval in INTERVALS),
        *(BudgetName("key", interval, key.cap_id) for interval in INTERVALS),
    ):
        assert name_of(name.subject) == name
    for stranger in ("quota:1", "key:nonsense", "organization:year", "key:", ""):
        assert not name_of(stranger).holder


def test_credit_is_shown_by_grant_in_the_order_of_its_use(api: Any, organization: Organization) -> None:
    expires_at = datetime(2099, 2, 1, tzinfo=UTC)
    grant_credit(organization.account, Nanos(4 * 10**9), kind="operator", reference="lasting", by="test")
    grant_credit(organization.account, Nanos(10**9), kind="operator", reference="gift", by="test", expires_at=expires_at)
    grant_credit(organization.account, Nanos(10**9), kind="operator", reference="first", by="test", priority=0)
    Budget.objects.filter(account=organization.account).update(spent_nanos=15 * 10**8)

    rows = api.get("/v1/credit-grants").json()["data"]

    assert [(row["left"], row["used"], row["expires_at"]) for row in rows] == [
        ("0.500000000", "0.500000000", "2099-02-01T00:00:00Z"),
        ("4.000000000", "0.000000000", None),
    ]
