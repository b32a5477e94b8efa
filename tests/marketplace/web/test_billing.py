import re

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse

from billing.customers import saved_cards
from billing.ids import public_id
from billing.ledger import balance
from billing.models import AutoRecharge, Budget, Customer, TopUp
from billing.money import NANOS_PER_CENT as CENT
from marketplace import payments
from marketplace.models import Organization
from tests.till import Till


def say(page: str) -> str:
    """Return a page's text."""
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_buying_leads_to_the_providers_page_and_credits_nothing(till: Till, member: Client, organization: Organization) -> None:
    reply = member.post(reverse("billing_buy"), {"amount": "25.00"})

    top_up = TopUp.objects.get()
    assert (reply.status_code, reply["Location"]) == (302, f"{till.world.base_url}/pay/{top_up.checkout_id}")
    assert (top_up.status, balance(organization.account).granted) == ("open", 0)
    assert organization.audit_events.filter(action="top_up.started").count() == 1
    back = till.session(top_up)["success_url"]
    assert back.endswith(reverse("top_up", args=[public_id("top", top_up.pk)]))


def test_the_return_page_waits_for_the_webhook(till: Till, member: Client, organization: Organization) -> None:
    member.post(reverse("billing_buy"), {"amount": "25"})
    top_up = TopUp.objects.get()
    address = reverse("top_up", args=[public_id("top", top_up.pk)])
    till.pay(top_up)
    assert "Waiting for the payment" in member.get(address).content.decode()
    assert balance(organization.account).granted == 0

    till.tell()

    assert "Paid. The credit is there." in member.get(address).content.decode()
    assert "$25.00" in say(member.get(reverse("billing")).content.decode())


def test_the_return_page_asks_stripe_itself_when_no_webhook_comes(till: Till, member: Client, organization: Organization) -> None:
    member.post(reverse("billing_buy"), {"amount": "25"})
    top_up = TopUp.objects.get()
    till.pay(top_up)

    page = member.get(reverse("top_up", args=[public_id("top", top_up.pk)]), headers={"HX-Request": "true"}).content.decode()

    assert "Paid. The credit is there." in page
    assert balance(organization.account).granted == 2500 * CENT


@pytest.mark.parametrize("amount", ["", "x", "4.99", "1000.01", "12.345", "-5", "1e3", "9" * 30])
def test_a_wrong_amount_is_told_and_asks_nobody(till: Till, member: Client, amount: str) -> None:
    reply = member.post(reverse("billing_buy"), {"amount": amount})

    assert reply.status_code == 422
    assert not TopUp.objects.exists()
    assert not till.world.requests


def test_a_site_without_payments_offers_none(member: Client) -> None:
    page = member.get(reverse("billing")).content.decode()
    reply = member.post(reverse("billing_buy"), {"amount": "25"})

    assert "Credit comes from the operator" in page
    assert (reply.status_code, TopUp.objects.exists()) == (422, False)


def test_the_fake_is_labelled(till: Till, member: Client) -> None:
    assert "FAKE Stripe: no money moves." in member.get(reverse("billing")).content.decode()


def test_cards_are_listed_and_removed(till: Till, member: Client, organization: Organization) -> None:
    till.top_up(organization.account)
    card = saved_cards(organization.account)[0]
    assert "visa …4242" in member.get(reverse("billing")).content.decode()

    member.post(reverse("billing_card"), {"remove": card.card_id})

    assert saved_cards(organization.account) == []
    assert organization.audit_events.filter(action="card.removed").count() == 1


def test_anothers_card_is_neither_removed_nor_chosen(
    till: Till, member: Client, organization: Organization, other_organization: Organization
) -> None:
    till.top_up(other_organization.account)
    card = saved_cards(other_organization.account)[0].card_id

    replies = [member.post(reverse("billing_card"), {name: card}).status_code for name in ("remove", "choose")]

    assert replies == [404, 404]
    assert len(saved_cards(other_organization.account)) == 1


def test_auto_recharge_is_turned_on_and_off(till: Till, member: Client, organization: Organization) -> None:
    till.top_up(organization.account)
    amounts = {"threshold": "5", "amount": "20", "monthly_ceiling": "100"}

    assert member.post(reverse("billing_recharge"), amounts).status_code == 302
    recharge = AutoRecharge.objects.get()
    assert (recharge.is_on, recharge.amount_cents, recharge.monthly_ceiling_cents) == (True, 2000, 10_000)

    member.post(reverse("billing_recharge"), {"stop": "1"})
    recharge.refresh_from_db()
    assert not recharge.is_on


def test_auto_recharge_without_a_card_is_refused(till: Till, member: Client) -> None:
    reply = member.post(reverse("billing_recharge"), {"threshold": "5", "amount": "20", "monthly_ceiling": "100"})

    assert (reply.status_code, AutoRecharge.objects.exists()) == (422, False)


def test_a_card_that_wants_its_owner_is_mailed_once_and_shown(till: Till, member: Client, organization: Organization) -> None:
    till.top_up(organization.account, card="3155")
    member.post(reverse("billing_recharge"), {"threshold": "5", "amount": "20", "monthly_ceiling": "100"})
    Budget.objects.filter(account=organization.account).update(spent_nanos=2400 * CENT)
    till.sweep()

    assert [payments.send_notices(), payments.send_notices()] == [1, 0]

    (message,) = mail.outbox
    assert (message.to, message.subject) == (["ada@example.com"], "acme: confirm your card")
    assert "/billing/" in message.body
    assert "Auto-recharge is paused." in member.get(reverse("billing")).content.decode()


def test_the_portal_is_the_organizations_own(till: Till, member: Client, organization: Organization) -> None:
    assert member.post(reverse("billing_portal"))["Location"] == reverse("billing")  # Nothing was ever paid.
    till.top_up(organization.account)

    address = member.post(reverse("billing_portal"))["Location"]

    assert address.startswith(f"{till.world.base_url}/portal/")
    session = till.world.store.all("billing_portal.session")[0]
    assert session["customer"] == Customer.objects.get(account=organization.account).customer_id


def test_browsers_may_follow_the_redirect_to_the_payment_page() -> None:
    import subprocess
    import sys

    code = "from django.conf import settings as s; print(s.CONTENT_SECURITY_POLICY['DIRECTIVES']['form-action'][1:], s.PAYMENTS)"
    import os

    def asked(**environment: str) -> str:
        values = {**os.environ, "DJANGO_SETTINGS_MODULE": "marketplace.settings", **environment}
        run = subprocess.run([sys.executable, "-c", code], env=values, capture_output=True, text=True, check=False)
        return run.stdout.strip() or run.stderr.strip().splitlines()[-1]

    assert asked(STRIPE="fake", STRIPE_FAKE_PORT="8123") == "['http://127.0.0.1:8123'] fake"
    assert asked() == "[] offline"
    assert "checkout.stripe.com" in asked(STRIPE_API_KEY="sk_live_x", STRIPE_WEBHOOK_SECRET="whsec_x")
    assert "gives credit for nothing" in asked(STRIPE="fake", HOST="0.0.0.0")
    assert "gives credit for nothing" in asked(STRIPE="fake", SITE_URL="https://farebox.example")
    assert "needs STRIPE_WEBHOOK_SECRET" in asked(STRIPE_API_KEY="sk_live_x")
    assert "is none of" in asked(STRIPE="real")
