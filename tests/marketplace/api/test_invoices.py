from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings

from billing.ids import public_id
from billing.invoicing import close_period
from billing.ledger import grant_credit
from billing.models import Invoice, Price, UsageEvent
from billing.money import Nanos
from billing.receipting import WriteReceiptKey
from billing.receipts import Signer
from billing.verify import verify
from marketplace.models import ApiKey
from tests.billing.facts import Recorder

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
    proof = {name: shown.pop(name) for name in ("account", "refunds", "receipt_keys", "late_calls", "late_after", "last_receipt")}
    assert (proof["account"], proof["refunds"], proof["late_calls"]) == (closed.account_id.hex, [], [])
    assert api.get("/v1/invoices").json()["data"] == [shown]


def test_an_invoice_with_late_usage_is_proven_by_what_the_api_answers(api: Any, key: ApiKey, sentiment: Any) -> None:
    """From the two downloads that the documentation names to PROVEN, with nothing else."""
    account, signer = key.organization.account, Signer(settings.RECEIPT_KEY)
    WriteReceiptKey(signer).write([None])
    grant_credit(account, Nanos(10**9), kind="operator", reference="r", by="test")
    recorder, price = Recorder(account, signer=signer), Price.objects.get(sku=sentiment.sku)
    numbers = []
    for month in (9, 10):
        recorder.record(price, units=5, occurred_at=datetime(2026, month, 5, tzinfo=UTC))
        late = recorder.record(price, units=7, occurred_at=datetime(2026, 9, 30, 23, tzinfo=UTC))
        numbers.append(close_period(account, datetime(2026, month, 1, tzinfo=UTC), now=datetime(2026, month + 1, 2, tzinfo=UTC)).number)

    for number in numbers:
        lines = b"".join(api.get(f"/v1/receipts?invoice={number}").streaming_content).decode().splitlines()
        assert verify(api.get(f"/v1/invoices/{number}").json(), lines) == []

    second = api.get(f"/v1/invoices/{numbers[1]}").json()
    assert [(line["late_from"], line["calls"], line["units"]) for line in second["lines"]] == [
        (None, 1, 5),
        ("2026-09-01T00:00:00Z", 1, 7),
    ]
    call = public_id("req", late.pk)
    assert (second["late_calls"], second["late_after"], second["last_receipt"]) == (
        [{"call": call, "late_from": "2026-09-01T00:00:00Z"}],
        2,
        4,
    )
    proof = api.get(f"/v1/invoices/{numbers[1]}/receipts/{call}").json()
    assert proof["merkle_root"] == second["lines"][1]["merkle_root"]
    assert api.get(f"/v1/invoices/{numbers[0]}/receipts/{call}").status_code == 404


def test_receipts_are_asked_for_by_an_invoice_or_a_period(api: Any, closed: Invoice) -> None:
    both = api.get(f"/v1/receipts?invoice={closed.number}&since=2026-10-01T00:00:00Z")

    assert (both.status_code, both.json()["code"]) == (400, "request_malformed")
    assert api.get("/v1/receipts?invoice=202610-000000000000").status_code == 404


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

    for path in ("/v1/invoices/{}", "/v1/receipts?invoice={}"):
        assert same_but_id(api.get(path.format(closed.number)), api.get(path.format("202610-000000000000")))
    assert api.get("/v1/invoices").json()["data"] == []
