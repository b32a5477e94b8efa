import csv
import io
from datetime import UTC, datetime

import pytest
from django.test import Client

from billing.models import Account
from marketplace.keys import KeySettings, issue_key
from marketplace.models import ApiKey, ModelVersion
from marketplace.web.usage import period_bounds
from tests.marketplace.web.recorded import record_call


@pytest.mark.parametrize(("group", "name"), [("model", "farebox/sentiment@1"), ("key", "laptop")])
def test_usage_is_summed_by_group(member: Client, key: ApiKey, sentiment: ModelVersion, group: str, name: str) -> None:
    record_call(key, sentiment, tokens=10)
    record_call(key, sentiment, tokens=20)

    rows = member.get(f"/usage/?by={group}").context["rows"]

    assert [(row.name, row.events, row.units, row.charge_nanos) for row in rows] == [(name, 2, 30, 6_000)]


def test_test_calls_are_not_counted(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    free, _ = issue_key(organization=key.organization, name="ci", settings=KeySettings(livemode=False), by="test")
    record_call(free, sentiment)

    assert member.get("/usage/?by=key").context["rows"] == []


def test_the_file_has_exact_amounts_and_no_formulas(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    key.name = '=HYPERLINK("https://evil.example")'
    key.save(update_fields=["name"])
    record_call(key, sentiment, tokens=3)

    reply = member.get("/usage/?by=key&format=csv")

    header, row = csv.reader(io.StringIO(reply.content.decode()))
    assert reply["Content-Type"] == "text/csv; charset=utf-8"
    assert header == ["key", "id", "calls", "unit", "units", "charge", "currency"]
    assert row[0].startswith("'=")
    assert row[2:] == ["1", "token", "3", "0.000000600", "usd"]


def test_the_file_says_the_accounts_own_currency(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    record_call(key, sentiment, tokens=3)
    Account.objects.filter(pk=key.organization.account_id).update(currency="cny")

    header, row = csv.reader(io.StringIO(member.get("/usage/?format=csv").content.decode()))

    assert (header[-2:], row[-2:]) == (["charge", "currency"], ["0.000000600", "cny"])


@pytest.mark.parametrize(
    ("period", "since", "until"),
    [
        ("month", "2026-03-01", "2026-03-15"),
        ("last-month", "2026-02-01", "2026-03-01"),
        ("7d", "2026-03-09", "2026-03-15"),
    ],
)
def test_periods_are_calendar_days_in_utc(period: str, since: str, until: str) -> None:
    bounds = period_bounds(period, now=datetime(2026, 3, 15, 13, 30, tzinfo=UTC))

    assert [moment.date().isoformat() for moment in bounds] == [since, until]


def test_an_unknown_grouping_falls_back(member: Client) -> None:
    assert member.get("/usage/?by=nonsense&period=nonsense").context["by"] == "model"
