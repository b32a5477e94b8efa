"""The page Revenue and payouts: set up by the provider's form, told what it earned and what was sent."""

import csv
import io
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from billing import connecting, payout_runs, sending
from billing.ids import uuid7
from billing.models import PayoutAccount, Price
from billing.periods import EPOCH
from billing.providers.fake import connect
from billing.statements import months_of
from marketplace.models import Organization
from tests.billing.payees import earn, fund_platform, later, sell
from tests.till import Till

pytestmark = pytest.mark.django_db


def say(page: Any) -> str:
    """Return a page's text."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.content.decode()).split())


def press(till: Till, address: str, choice: str) -> str:
    """Press a button of the fake's form; return where it leads."""
    from billing.providers.fake import pages

    _, headers, _ = pages.answer(till.world, "POST", address.removeprefix(till.world.base_url), f"choice={choice}")
    return headers["location"]


def test_the_button_leads_to_the_form_and_the_form_back(till: Till, member: Client, organization: Organization) -> None:
    assert "not set up" in say(member.get(reverse("revenue")))

    reply = member.post(reverse("revenue_set_up"), {"country": "US"})
    assert reply["Location"].startswith(f"{till.world.base_url}/onboard/")
    assert organization.audit_events.filter(action="payouts.set_up").count() == 1
    assert "not finished" in say(member.get(reverse("revenue")))

    back = press(till, reply["Location"], "complete")
    assert back.endswith(reverse("revenue_set_up_done"))
    member.get(reverse("revenue_set_up_done"))  # No webhook came: who comes back is asked about.
    assert PayoutAccount.objects.get().is_onboarded
    assert "set up" in say(member.get(reverse("revenue")))


def test_a_link_works_once_and_the_next_is_made_by_itself(till: Till, member: Client) -> None:
    first = member.post(reverse("revenue_set_up"), {"country": "US"})["Location"]
    press(till, first, "later")

    again = press(till, first, "complete")
    assert again.endswith(reverse("revenue_set_up_again"))
    second = member.get(reverse("revenue_set_up_again"))["Location"]

    assert second.startswith(till.world.base_url)
    assert second != first
    assert till.count("account") == 1


def test_what_is_still_asked_is_told(till: Till, member: Client, organization: Organization) -> None:
    press(till, member.post(reverse("revenue_set_up"), {"country": "US"})["Location"], "partly")
    till.tell()
    page = say(member.get(reverse("revenue")))
    assert "The payment provider asks for more." in page
    assert "individual.verification.document" in page

    connect.restrict(till.world, till.world.store.all("account")[0])
    till.tell()
    assert "restricted" in say(member.get(reverse("revenue")))


@pytest.mark.parametrize("country", ["", "XX", "us", "DE"])
def test_another_country_is_refused_and_nobody_is_asked(till: Till, member: Client, country: str) -> None:
    reply = member.post(reverse("revenue_set_up"), {"country": country}, follow=True)

    assert "Choose one of the countries of the list." in say(reply)
    assert (till.count("account"), PayoutAccount.objects.exists()) == (0, False)


def test_what_stripe_refuses_is_told_and_can_be_tried_again(till: Till, member: Client, settings: Any) -> None:
    settings.PAYOUT_COUNTRIES = ["ZZ", "US"]
    refused = member.post(reverse("revenue_set_up"), {"country": "ZZ"}, follow=True)
    assert "The payment provider refused" in say(refused)

    assert member.post(reverse("revenue_set_up"), {"country": "US"})["Location"].startswith(till.world.base_url)


def test_the_page_tells_what_was_earned_sent_and_came_back(till: Till, member: Client, organization: Organization) -> None:
    account = organization.account
    press(till, member.post(reverse("revenue_set_up"), {"country": "US"})["Location"], "complete")
    till.tell()
    fund_platform(till)
    earn(account, 3000)
    assert "On hold for 14 days $30.00" in say(member.get(reverse("revenue")))
    (payout,) = payout_runs.pay_providers(now=later(), by="test")
    sending.sweep()
    payout.refresh_from_db()
    connect.create_reversal(till.world, {"amount": 500}, payout.transfer_id)
    connect.pay_out(till.world, till.world.store.all("account")[0], succeeds=False)
    till.tell()

    page = say(member.get(reverse("revenue")))

    assert "Earned $30.00 Sent to you $25.00" in page
    assert f"sent {payout.transfer_id} $5.00 $30.00" in page
    assert "failed account_closed $25.00" in page


def test_a_month_has_a_statement_as_a_page_and_as_csv(
    till: Till, member: Client, organization: Organization, other_organization: Organization
) -> None:
    price = Price.objects.create(id=uuid7(), sku="acme/model@1", unit="token", unit_nanos=200, effective_from=EPOCH)
    sell(organization.account, fund_platform(till), price, 1000, 500)
    (month,) = months_of(organization.account)
    address = f"{reverse('revenue_statement')}?month={month.month:%Y-%m}"

    assert f"{month.month:%Y-%m} USD $12.75" in say(member.get(reverse("revenue")))
    page = say(member.get(address))
    assert "Charged to callers $15.00 Refunded $0.00 This site’s fee $2.25" in page
    assert "acme/model@1 2 75,000,000 tokens $15.00 – $2.25 (15 %) $12.75" in page
    rows = list(csv.DictReader(io.StringIO(member.get(f"{address}&format=csv").content.decode())))
    assert rows == [
        {
            "month": f"{month.month:%Y-%m}",
            "version": "acme/model@1",
            "price": price.pk.hex,
            "unit": "token",
            "calls": "2",
            "units": "75000000",
            "charge": "15.000000000",
            "refunds": "0.000000000",
            "fee_percent": "15",
            "fee": "2.250000000",
            "share": "12.750000000",
            "currency": "usd",
        }
    ]
    assert "acme/model@1" not in say(member.get(reverse("revenue_statement") + "?month=2020-01"))


@pytest.mark.parametrize("month", ["2026-13", "26-01", "2026-1", "x", "2026-01-01", "\u0662\u0660\u0662\u0666-01"])
def test_a_month_that_is_none_is_not_found(member: Client, month: str) -> None:
    assert member.get(reverse("revenue_statement"), {"month": month}).status_code == 404


def test_who_is_held_is_told(till: Till, member: Client, organization: Organization) -> None:
    connecting.hold_payouts(organization.account)

    assert "Nothing is sent to you now." in say(member.get(reverse("revenue")))


def test_another_organizations_money_is_not_shown(
    till: Till, member: Client, organization: Organization, other_organization: Organization
) -> None:
    earn(other_organization.account, 4242)

    page = say(member.get(reverse("revenue")))

    assert "42.42" not in page
    assert "Nothing earned yet" in page


def test_a_site_without_payments_says_so(member: Client) -> None:
    assert "This site collects no money, so it pays nobody." in say(member.get(reverse("revenue")))
    reply = member.post(reverse("revenue_set_up"), {"country": "US"}, follow=True)

    assert "This site collects no money" in say(reply)
    assert not PayoutAccount.objects.exists()


def test_suspending_an_organization_stops_its_payouts(till: Till, organization: Organization) -> None:
    from marketplace.tenants import restore_organization, suspend_organization

    suspend_organization(organization, reason="fraud", by="test")
    assert PayoutAccount.objects.get().suspended_at is not None
    restore_organization(organization, by="test")
    assert PayoutAccount.objects.get().suspended_at is None
