from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from billing.ledger import grant_credit
from billing.money import Nanos
from marketplace.models import ApiKey, ModelVersion, Organization
from marketplace.tenants import suspend_organization
from tests.marketplace.web.recorded import record_call


def test_the_figures_are_those_of_the_calls(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    for tokens in (10, 20, 30):
        record_call(key, sentiment, tokens=tokens)
    record_call(key, sentiment, status=422, code="invalid_input")

    context = member.get("/dashboard/").context

    assert (context["calls"], context["spend_nanos"], context["keys"]) == (3, 60 * 200, 1)
    assert context["latency"].p50_us == 5_000
    assert len(context["recent"]) == 4


@pytest.mark.parametrize(("period", "buckets"), [("24h", 24), ("30d", 30)])
def test_the_charts_add_up_to_the_calls(member: Client, key: ApiKey, sentiment: ModelVersion, period: str, buckets: int) -> None:
    now = timezone.now()
    for back in (timedelta(0), timedelta(hours=1), timedelta(hours=2)):
        record_call(key, sentiment, tokens=5, at=now - back)

    context = member.get(f"/dashboard/?period={period}").context

    assert len(context["calls_chart"].bars) == buckets
    assert context["calls_chart"].total == "3"
    assert context["spend_chart"].total == "$0.000003"
    assert len(context["chart_rows"]) == buckets


def test_an_empty_dashboard_says_what_to_do(member: Client) -> None:
    page = member.get("/dashboard/").content.decode()

    assert "Make your first call" in page


def test_who_has_no_credit_left_is_told_before_a_call_fails(member: Client, organization: Organization) -> None:
    assert "Your credit is used up" in member.get("/dashboard/").content.decode()

    grant_credit(organization.account, Nanos(10**9), kind="operator", reference="test", by="test")

    assert "Your credit is used up" not in member.get("/dashboard/").content.decode()


def test_a_suspended_organization_is_told_so_on_every_page(member: Client, organization: Organization) -> None:
    suspend_organization(organization, reason="test", by="test")

    assert "This organization is suspended" in member.get("/keys/").content.decode()


def test_the_balance_has_every_digit(member: Client, organization: Organization, key: ApiKey, sentiment: ModelVersion) -> None:
    grant_credit(organization.account, Nanos(5 * 10**9 - 1200), kind="operator", reference="test", by="test")

    assert "<dd>$4.9999988</dd>" in member.get("/dashboard/").content.decode()
    assert '<strong class="num">$4.9999988</strong>' in member.get("/invoices/").content.decode()
    assert 'title="$4.9999988"' in member.get("/models/").content.decode()  # The header is too narrow to show it.
