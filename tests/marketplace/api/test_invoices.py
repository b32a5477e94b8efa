from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from billing.invoicing import close_period
from billing.ledger import grant_credit
from billing.models import Invoice, UsageEvent
from billing.money import Nanos
from marketplace.models import ApiKey

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.fixture
def closed(key: ApiKey, use: Callable[..., Any]) -> Invoice:
    """The closed invoice of a month with two calls: 0.10 and 0.2000002."""
    for units in (500_000, 1_000_001):
        use(key, units=units, at=datetime(2026, 10, 5, 12, tzinfo=UTC))
    return close_period(key.organization.account, OCTOBER, now=datetime(2026, 11, 2, tzinfo=UTC))


def test_a_closed_invoice_is_shown_by_its_number(api: Any, closed: Invoice) -> None:
    shown = api.get(f"/v1/invoices/{closed.number}").json()

    [line] = shown["lines"]
    assert (shown["status"], shown["total"], shown["currency"]) == ("closed", "0.30", "usd")
    assert (line["calls"], line["units"], line["charge"]) == (2, 1_500_001, "0.300000200")
    assert Decimal(line["charge"]) == Decimal(line["amount"]) + Decimal(line["remainder"])
    proof = {name: shown.pop(name) for name in ("account", "refunds", "receipt_keys")}
    assert (proof["account"], proof["refunds"]) == (closed.account_id.hex, [])
    assert api.get("/v1/invoices").json()["data"] == [shown]


def test_the_upcoming_invoice_is_the_sum_of_the_months_calls(api: Any, key: ApiKey, use: Callable[..., Any]) -> None:
    for units in (3, 5, 7):
        use(key, units=units)

    shown = api.get("/v1/invoices/upcoming").json()

    total = sum(UsageEvent.objects.values_list("charge_nanos", flat=True))
    assert (shown["number"], shown["status"]) == (None, "upcoming")
    assert sum(Decimal(line["charge"]) for line in shown["lines"]) * 10**9 == total == 3000


def test_the_balance_is_what_was_granted_less_what_was_spent(api: Any, key: ApiKey) -> None:
    grant_credit(key.organization.account, Nanos(5 * 10**9), kind="operator", reference="r", by="test")

    assert api.get("/v1/balance").json() == {
        "object": "balance",
        "granted": "5.000000000",
        "spent": "0.000000000",
        "held": "0.000000000",
        "available": "5.000000000",
        "currency": "usd",
        "top_up_minimum": None,  # This site collects no money.
        "top_up_maximum": None,
    }


@pytest.mark.parametrize("path", ["/v1/balance", "/v1/invoices", "/v1/invoices/upcoming", "/v1/invoices/x"])
def test_a_test_key_learns_nothing_of_the_money(make_api: Callable[..., Any], path: str) -> None:
    reply = make_api(livemode=False).get(path)

    assert (reply.status_code, reply.json()["code"]) == (403, "scope_missing")


def test_another_organizations_invoice_is_answered_as_an_absent_one(
    make_api: Callable[..., Any], closed: Invoice, other_organization: Any, same_but_id: Callable[..., bool]
) -> None:
    Invoice.objects.filter(pk=closed.pk).update(account=other_organization.account)
    api = make_api()

    assert same_but_id(api.get(f"/v1/invoices/{closed.number}"), api.get("/v1/invoices/202610-000000000000"))
    assert api.get("/v1/invoices").json()["data"] == []
