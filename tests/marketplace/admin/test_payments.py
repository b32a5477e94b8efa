import re

from django.test import Client
from django.urls import reverse

from billing.ledger import balance
from billing.models import Customer, PaymentRefund
from billing.providers.fake import refunds
from marketplace.models import Organization
from tests.till import Till


def form_of(desk: Client, address: str) -> dict[str, str]:
    """Return a deed's hidden reference, as the page brings it."""
    (tag,) = re.findall(r'<input[^>]*name="reference"[^>]*>', desk.get(address).content.decode())
    return {"reference": tag.split('value="')[1].split('"')[0]}


def test_the_operator_refunds_a_payment_once_on_the_record(till: Till, desk: Client, organization: Organization) -> None:
    top_up = till.top_up(organization.account, 2500)
    address = reverse("admin:billing_topup_give_back", args=[top_up.pk])
    form = {**form_of(desk, address), "amount": "10.00", "reason": "unhappy"}
    assert form["reference"]

    assert desk.post(address, form).status_code == 302
    assert desk.post(address, form).status_code == 302  # Sent twice.

    refund = PaymentRefund.objects.get()
    assert (refund.amount_cents, refund.status, refund.by) == (1000, "succeeded", "operator@example.com")
    assert (till.count("refund"), balance(organization.account).granted) == (1, 15 * 10**9)
    event = organization.audit_events.get(action="payment.refunded")
    assert event.details == {"amount": "10.00", "currency": "usd", "reason": "unhappy"}


def test_too_large_a_refund_is_told_and_not_made(till: Till, desk: Client, organization: Organization) -> None:
    top_up = till.top_up(organization.account, 2500)
    address = reverse("admin:billing_topup_give_back", args=[top_up.pk])

    for amount in ("25.01", "0", "1.005", "x"):
        reply = desk.post(address, {**form_of(desk, address), "amount": amount, "reason": "r"})
        assert reply.status_code == 200

    assert not PaymentRefund.objects.exists()
    assert till.count("refund") == 0


def test_the_operator_unfreezes_payments_after_a_lost_dispute(till: Till, desk: Client, organization: Organization) -> None:
    till.top_up(organization.account, card="0259")
    refunds.close_dispute(till.world, till.world.store.all("dispute")[0], won=False)
    till.tell()

    reply = desk.post(reverse("admin:marketplace_organization_unfreeze", args=[organization.pk]), {"reason": "paid by wire"})

    assert reply.status_code == 302
    assert Customer.objects.get(account=organization.account).frozen_at is None
    assert organization.audit_events.filter(action="payments.unfrozen").count() == 1
