"""`/v1/revenue` and `/v1/payouts`."""

from typing import Any

from billing import payout_runs, sending
from billing.ids import uuid7
from billing.models import Price
from billing.periods import EPOCH
from billing.providers.fake import connect
from billing.statements import months_of
from marketplace.models import Organization
from tests.billing.payees import at_stripe, earn, fund_platform, later, onboard, sell
from tests.till import Till


def test_an_organization_that_sells_nothing_has_no_balance(api: Any) -> None:
    shown = api.get("/v1/revenue").json()

    assert (shown["object"], shown["payouts_status"], shown["balances"]) == ("revenue", "not_onboarded", [])
    assert api.get("/v1/payouts").json()["data"] == []


def test_revenue_is_shown_by_currency_with_what_is_kept_back(till: Till, api: Any, organization: Organization) -> None:
    onboard(till, organization.account)
    earn(organization.account, 1000.25)
    earn(organization.account, 300, currency="eur")

    shown = api.get("/v1/revenue").json()

    assert (shown["payouts_status"], shown["requirements_due"]) == ("ready", [])
    usd, eur = sorted(shown["balances"], key=lambda one: one["currency"], reverse=True)
    assert usd == {
        "currency": "usd",
        "balance": "10.002500000",
        "earned": "10.002500000",
        "paid": "0.000000000",
        "on_hold": "10.002500000",
        "disputed": "0.000000000",
        "unpaid": "0.000000000",
        "reserve": "0.000000000",
        "payable": "0.000000000",
    }
    assert eur["balance"] == "3.000000000"


def test_what_is_restricted_is_told(till: Till, api: Any, organization: Organization) -> None:
    onboard(till, organization.account)
    connect.restrict(till.world, at_stripe(till))
    till.tell()

    shown = api.get("/v1/revenue").json()

    assert (shown["payouts_status"], shown["requirements_due"]) == ("not_onboarded", ["individual.verification.document"])


def test_payouts_are_listed_and_shown(till: Till, api: Any, organization: Organization) -> None:
    onboard(till, organization.account)
    fund_platform(till)
    for _ in range(3):
        earn(organization.account, 1500)
        payout_runs.pay_providers(now=later(), by="test")
        sending.sweep()
    newest = organization.account.payouts.order_by("-created_at")[0]
    connect.create_reversal(till.world, {"amount": 25}, newest.transfer_id)
    till.tell()

    first = api.get("/v1/payouts", {"limit": 2}).json()
    rest = api.get("/v1/payouts", {"limit": 2, "starting_after": first["data"][1]["id"]}).json()

    assert (len(first["data"]), first["has_more"], len(rest["data"]), rest["has_more"]) == (2, True, 1, False)
    shown = api.get(f"/v1/payouts/{first['data'][0]['id']}").json()
    assert shown == first["data"][0]
    assert (shown["status"], shown["amount"], shown["came_back"], shown["transfer"]) == ("paid", "15.00", "0.250000000", newest.transfer_id)


def test_a_months_statement_as_json_and_csv(till: Till, api: Any, organization: Organization, other_organization: Organization) -> None:
    price = Price.objects.create(id=uuid7(), sku="acme/model@1", unit="token", unit_nanos=200, effective_from=EPOCH)
    sell(organization.account, fund_platform(till), price, 1000)
    month = f"{months_of(organization.account)[0].month:%Y-%m}"

    shown = api.get("/v1/revenue", {"month": month}).json()

    assert (shown["month"], len(shown["lines"])) == (month, 1)
    line = shown["lines"][0]
    assert (line["sku"], line["calls"], line["fee"], line["share"]) == ("acme/model@1", 1, "1.500000000", "8.500000000")
    text = api.get("/v1/revenue", {"month": month, "format": "csv"})
    assert text["Content-Type"].startswith("text/csv")
    assert text.content == api.get("/v1/revenue", {"month": month}, accept="text/csv").content
    assert "acme/model@1" in text.content.decode()
    assert api.get("/v1/revenue", {"month": "2020-01"}).json()["lines"] == []


def test_a_month_that_is_none_is_refused(api: Any) -> None:
    reply = api.get("/v1/revenue", {"month": "2026-13"})

    assert (reply.status_code, reply.json()["code"]) == (400, "request_malformed")
