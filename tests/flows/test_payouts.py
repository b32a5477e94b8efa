"""STRIPE=fake, from sign-up to the provider's payout and back, through real processes; with the fake's faults on from half-way."""

from typing import Any

import pytest

from tests.flows.calls import Caller
from tests.flows.provider_site import QUICK, Person, at_stripe, press, revenue, set_faults, shell, wait_until
from tests.flows.server import Site, free_port, start_site

_POST = """
from datetime import timedelta
from django.utils import timezone
from billing.posting import post_usage
print(post_usage(now=timezone.now() + timedelta(hours=2)))
"""
_PAY = "from django.core.management import call_command; call_command('pay_providers')"
_REFUND = """
from uuid import UUID
from billing.ids import parse_public_id
from billing.refunding import refund_event
print(refund_event(parse_public_id("req", {call!r}), reason="wrong answer", by="test").pk)
"""
_BOOKS = "from billing.books import check_books; print([str(one) for one in check_books()])"
_COMPARE = """
from datetime import timedelta
from django.utils import timezone
from billing.models import Payout
from billing.payout_runs import check_today
Payout.objects.update(settled_at=timezone.now() - timedelta(hours=2))
print(check_today(now=timezone.now()))
"""


def call(caller: Caller, path: str) -> str:
    """Call the model; return the call's id."""
    answer = caller.post(f"/v1/models/{path}/predict", {"input_data": {"x": [[1.0, 2.0]]}})
    assert answer.status == 200, answer.body
    return answer.headers["request-id"]


def payouts(site: Site, key: str) -> list[tuple[str, str, str]]:
    """Return state, amount and what came back of each payout, the oldest first."""
    listed: list[dict[str, Any]] = Caller(site.port, key).get("/v1/payouts").json()["data"][::-1]
    return [(one["status"], one["amount"], one["came_back"]) for one in listed]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_calls_of_anothers_model_become_a_payout_and_a_refund_brings_it_back() -> None:
    with start_site(**QUICK, STRIPE_FAKE_PORT=str(free_port())) as site:
        maker, customer = Person(site, "maker@example.com"), Person(site, "customer@example.com")
        maker.sign_up()
        customer.sign_up()
        path, maker_key, customer_key = maker.publish(), maker.key(), customer.key()
        caller = Caller(site.port, customer_key)

        # The provider goes through the fake's form.
        form = maker_form(maker)
        assert press(form, "complete").endswith("/revenue/setup/done/")
        assert "Revenue and payouts" in maker.get("/revenue/setup/done/")
        wait_until(lambda: Caller(site.port, maker_key).get("/v1/revenue").json()["payouts_status"] == "ready")

        # The customer pays, and calls.
        press(caller.post("/v1/top-ups", {"amount": "25.00"}).json()["checkout_url"], "4242")
        wait_until(lambda: bool(caller.get("/v1/balance").json()["granted"] == "25.000000000"))
        calls = [call(caller, path) for _ in range(8)]
        assert shell(site, _POST) == "1"
        assert revenue(site, maker_key)["earned"] == "13.600000000"  # 8 calls of $2, less 15 %.

        # What was earned is sent.
        shell(site, _PAY)
        wait_until(lambda: payouts(site, maker_key) == [("paid", "13.60", "0.000000000")])
        assert [transfer["amount"] for transfer in at_stripe(site, "transfer")] == [1360]
        assert shell(site, _BOOKS) == "[]"

        # From here on answers are lost, refused and broken, and webhooks come twice and in any order.
        faults = ("timeout_after", "rate_limit", "error_500_after", "timeout_before", "error_500")
        waiting = [{"kind": kind, "match": "POST /v1/transfers", "seconds": 3.5} for kind in faults]
        set_faults(site, next=waiting, duplicates=1, shuffled=True)

        # A refund takes back what was sent: it is reversed.
        shell(site, _REFUND.format(call=calls[0]))
        shell(site, _POST)
        assert revenue(site, maker_key)["balance"] == "-1.700000000"
        shell(site, _PAY)
        wait_until(lambda: payouts(site, maker_key) == [("paid", "13.60", "1.700000000")], timeout_s=180)
        assert revenue(site, maker_key)["balance"] == "0.000000000"

        # And what is earned next is sent once.
        set_faults(site, next=waiting[:3])
        caller = Caller(site.port, customer_key)  # On a busy machine the one of before was idle for 75 s, and closed.
        for _ in range(4):
            call(caller, path)
        shell(site, _POST)
        shell(site, _PAY)
        shell(site, _PAY)  # Twice.
        wait_until(lambda: payouts(site, maker_key)[-1] == ("paid", "6.80", "0.000000000"), timeout_s=180)

        assert [(one["amount"], one["amount_reversed"]) for one in at_stripe(site, "transfer")] == [(1360, 170), (680, 0)]
        assert shell(site, _BOOKS) == "[]"
        assert shell(site, _COMPARE) == "[]"


def maker_form(maker: Person) -> str:
    """Press the button that leads to the form; return its address."""
    address = maker.send("/revenue/", "/revenue/setup/", country="US")
    assert "/onboard/" in address
    return address
