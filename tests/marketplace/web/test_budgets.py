"""The Budgets page: how full each budget is, setting caps, and nobody else's."""

from datetime import UTC, datetime

import pytest
from django.test import Client
from django.urls import reverse

from billing.ids import public_id
from billing.ledger import grant_credit
from billing.models import Budget
from billing.money import Nanos
from billing.periods import day_of
from marketplace.keys import KeySettings, issue_key
from marketplace.models import ApiKey, Cap, Organization
from tests.marketplace.web.test_billing import say


@pytest.fixture
def key(organization: Organization) -> ApiKey:
    return issue_key(organization=organization, name="worker", settings=KeySettings(), by="test")[0]


def test_the_page_shows_what_is_used_of_each(member: Client, organization: Organization, key: ApiKey) -> None:
    grant_credit(organization.account, Nanos(4 * 10**9), kind="operator", reference="t", by="test")
    Budget.objects.filter(account=organization.account).update(spent_nanos=10**9)
    Cap.objects.create(organization=organization, subject="organization:day", limit_nanos=2 * 10**9, thresholds=[90])
    starts_at, ends_at = day_of(datetime.now(UTC))
    Budget.objects.create(
        account=organization.account, subject="organization:day", interval="day", starts_at=starts_at, ends_at=ends_at,
        limit_nanos=2 * 10**9, spent_nanos=19 * 10**8, leased_nanos=10**8,
    )  # fmt: skip

    page = member.get(reverse("budgets")).content.decode()

    text = say(page)
    assert "$1.00 of $4.00 spent, $3.00 left" in text
    assert "$1.90 of $2.00 spent, $0.00 left · $0.10 held for running calls" in text
    assert '<rect width="95.0"' in page
    assert 'value="90"' in page
    assert "worker" not in text  # It has no cap.


def test_a_cap_is_set_and_lifted(member: Client, organization: Organization, key: ApiKey) -> None:
    address = reverse("budget", args=[f"{public_id('key', key.pk)}_day"])

    assert member.post(address, {"limit": "$2.50", "thresholds": "90 %, 10"}).status_code == 302

    cap = Cap.objects.get(organization=organization)
    assert (cap.subject, cap.limit_nanos, cap.thresholds) == (f"key:{key.cap_id}:day", 2_500_000_000, [10, 90])
    assert "worker" in say(member.get(reverse("budgets")).content.decode())
    assert 'value="2.50"' in member.get(reverse("key", args=[public_id("key", key.pk)])).content.decode()

    member.post(address, {"limit": "", "thresholds": ""})

    cap.refresh_from_db()
    assert (cap.limit_nanos, cap.thresholds) == (None, [])


@pytest.mark.parametrize(
    "form", [{"limit": "lots", "thresholds": ""}, {"limit": "1", "thresholds": "0"}, {"limit": "1", "thresholds": "a"}]
)
def test_a_wrong_form_sets_nothing_and_says_so(member: Client, form: dict[str, str]) -> None:
    reply = member.post(reverse("budget", args=["organization_month"]), form)

    assert (reply.status_code, Cap.objects.count()) == (422, 0)
    assert "errorlist" in reply.content.decode()


def test_the_balance_has_no_cap_to_set(member: Client) -> None:
    assert member.post(reverse("budget", args=["balance"]), {"limit": "5", "thresholds": "70"}).status_code == 302

    assert [(cap.limit_nanos, cap.thresholds) for cap in Cap.objects.all()] == [(None, [70])]


def test_anothers_budget_is_not_found(member: Client, other_organization: Organization) -> None:
    theirs, _ = issue_key(organization=other_organization, name="theirs", settings=KeySettings(), by="test")

    reply = member.post(reverse("budget", args=[f"{public_id('key', theirs.pk)}_day"]), {"limit": "0"})

    assert (reply.status_code, Cap.objects.count()) == (404, 0)


def test_the_billing_page_shows_what_is_left_of_each_grant_and_when_it_expires(member: Client, organization: Organization) -> None:
    expires_at = datetime(2099, 2, 1, tzinfo=UTC)
    grant_credit(organization.account, Nanos(10**9), kind="operator", reference="gift", by="test", expires_at=expires_at)
    Budget.objects.filter(account=organization.account).update(spent_nanos=25 * 10**7)

    text = say(member.get(reverse("billing")).content.decode())

    assert "Given by the operator 2099-02-01 00:00 $0.75 $1.00" in text
