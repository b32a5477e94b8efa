from collections.abc import Callable
from typing import Any

import pytest

from billing.ledger import balance
from billing.models import TopUp
from marketplace.models import Organization
from tests.till import Till


def test_a_top_up_is_started_paid_and_seen(till: Till, api: Any, organization: Organization) -> None:
    made = api.post("/v1/top-ups", {"amount": "12.50"})
    assert (made.status_code, made.json()["status"]) == (201, "open")
    assert made.json()["checkout_url"].startswith(till.world.base_url)

    till.pay(TopUp.objects.get())
    till.tell()

    shown = api.get(f"/v1/top-ups/{made.json()['id']}").json()
    assert (shown["status"], shown["amount"], shown["checkout_url"]) == ("paid", "12.50", "")
    assert api.get("/v1/top-ups").json()["data"] == [shown]
    assert api.get("/v1/balance").json()["granted"] == "12.500000000"
    assert balance(organization.account).granted == 12_500_000_000


@pytest.mark.parametrize(
    ("amount", "status", "code"),
    [
        ("4.99", 422, "top_up_out_of_range"),
        ("1000.01", 422, "top_up_out_of_range"),
        ("10.005", 400, "request_malformed"),
        (10, 400, "request_malformed"),
        ("-10", 400, "request_malformed"),
    ],
)
def test_a_wrong_amount_starts_nothing(till: Till, api: Any, amount: object, status: int, code: str) -> None:
    reply = api.post("/v1/top-ups", {"amount": amount})

    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert not TopUp.objects.exists()
    assert not till.world.requests


def test_a_site_without_payments_refuses(api: Any) -> None:
    reply = api.post("/v1/top-ups", {"amount": "25.00"})

    assert (reply.status_code, reply.json()["code"]) == (409, "payments_off")
    assert api.get("/v1/balance").json()["top_up_minimum"] is None
    assert not TopUp.objects.exists()


def test_the_balance_names_the_limits(till: Till, api: Any) -> None:
    shown = api.get("/v1/balance").json()

    assert (shown["top_up_minimum"], shown["top_up_maximum"]) == ("5.00", "1000.00")


def test_cards_are_listed_and_removed(till: Till, api: Any, organization: Organization) -> None:
    till.top_up(organization.account)
    (card,) = api.get("/v1/payment-methods").json()["data"]
    assert (card["brand"], card["last4"]) == ("visa", "4242")

    assert api.delete(f"/v1/payment-methods/{card['id']}").status_code == 204

    assert api.get("/v1/payment-methods").json()["data"] == []
    assert api.delete(f"/v1/payment-methods/{card['id']}").status_code == 404


def test_reading_takes_one_scope_and_paying_another(till: Till, make_api: Callable[..., Any]) -> None:
    reader = make_api(kind="rk", scopes=["billing:read"])

    assert reader.get("/v1/top-ups").status_code == 200
    assert reader.post("/v1/top-ups", {"amount": "25.00"}).json()["code"] == "scope_missing"
    assert make_api(kind="rk", scopes=["predict"]).get("/v1/payment-methods").json()["code"] == "scope_missing"
    assert not TopUp.objects.exists()


def test_a_slow_provider_still_gives_a_top_up(till: Till, api: Any) -> None:
    from billing.providers.fake.world import Fault

    till.world.faults.waiting.append(Fault(kind="error_500", match="checkout/sessions"))

    made = api.post("/v1/top-ups", {"amount": "25.00"}).json()
    assert (made["status"], made["checkout_url"]) == ("created", "")
    till.make_due()
    till.sweep()

    assert api.get(f"/v1/top-ups/{made['id']}").json()["status"] == "open"
