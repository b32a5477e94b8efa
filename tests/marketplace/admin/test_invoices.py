"""The operator's deeds on money paid afterwards: each once, each on the record."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import credit_lines
from billing.books import check_books
from billing.invoicing import close_period
from billing.models import Account, BillingDetails, CreditNote, Invoice, Price
from billing.periods import EPOCH, month_of
from marketplace.models import Organization
from tests.billing.facts import Recorder
from tests.till import Till, work


@pytest.fixture
def unpaid(till: Till, organization: Organization) -> Invoice:
    """An invoice of 30.00 that waits to be paid."""
    price = Price.objects.create(sku="house/dear@1", unit="call", unit_nanos=10**9, effective_from=EPOCH)
    account = organization.account
    credit_lines.set_credit_line(account, 10**12)
    this_month = month_of(timezone.now())[0]
    last_month = month_of(this_month - timedelta(days=1))[0]
    Recorder(account).record(price, units=30, occurred_at=last_month)
    invoice = close_period(account, last_month, now=this_month + timedelta(hours=2))
    work(till)
    return Invoice.objects.get(pk=invoice.pk)


def reference_of(desk: Client, address: str) -> str:
    (tag,) = re.findall(r'<input[^>]*name="reference"[^>]*>', desk.get(address).content.decode())
    return tag.split('value="')[1].split('"')[0]


def test_a_credit_line_is_given_on_the_record(till: Till, desk: Client, organization: Organization) -> None:
    address = reverse("admin:marketplace_organization_set_line", args=[organization.pk])

    assert desk.get(address).status_code == 200
    assert desk.post(address, {"amount": "x", "reason": "r"}).status_code == 200
    assert desk.post(address, {"amount": "1000", "reason": "They are good for it."}).status_code == 302

    assert Account.objects.get(pk=organization.account_id).credit_line_nanos == 1000 * 10**9
    assert organization.audit_events.get(action="credit_line.set").details["reason"] == "They are good for it."
    assert till.count("invoice") == 0


def test_without_a_collector_there_is_no_line(desk: Client, organization: Organization) -> None:
    address = reverse("admin:marketplace_organization_set_line", args=[organization.pk])

    assert desk.post(address, {"amount": "1000", "reason": "r"}).status_code == 200
    assert not organization.audit_events.filter(action="credit_line.set").exists()


def test_a_tax_rate_of_its_own_is_given_on_the_record(desk: Client, organization: Organization) -> None:
    address = reverse("admin:marketplace_organization_set_tax", args=[organization.pk])

    assert desk.post(address, {"rate": "7.5", "name": "MwSt.", "reason": "r"}).status_code == 302
    assert BillingDetails.objects.get().tax_basis_points == 750
    assert desk.post(address, {"rate": "", "name": "", "reason": "r"}).status_code == 302
    assert BillingDetails.objects.get().tax_basis_points is None
    assert desk.post(address, {"rate": "101", "name": "", "reason": "r"}).status_code == 200
    assert organization.audit_events.filter(action="tax_rate.set").count() == 2


def test_a_credit_note_is_written_once(till: Till, desk: Client, organization: Organization, unpaid: Invoice) -> None:
    address = reverse("admin:billing_invoice_credit", args=[unpaid.pk])
    line = str(unpaid.lines.get().pk)
    form = {"line": line, "amount": "5.00", "settlement": "credit", "reason": "slow", "reference": reference_of(desk, address)}

    assert desk.post(address, form).status_code == 302
    assert desk.post(address, form).status_code == 302  # Sent twice.
    assert desk.post(address, {**form, "amount": "100.00", "reference": "0190f5fe-7c00-7a00-8000-000000000000"}).status_code == 200

    assert CreditNote.objects.get().total_cents == till.world.store.all("credit_note")[0]["total"] == 500
    assert organization.audit_events.filter(action="invoice.corrected").count() == 1
    assert desk.get(reverse("admin:billing_invoice_change", args=[unpaid.pk])).status_code == 200
    assert check_books() == []


@pytest.mark.parametrize(
    ("deed", "status", "action"), [("void", "void", "invoice.voided"), ("give_up", "uncollectible", "invoice.given_up")]
)
def test_an_unpaid_invoice_is_ended(  # noqa: PLR0917 (fixtures)
    till: Till, desk: Client, organization: Organization, unpaid: Invoice, deed: str, status: str, action: str
) -> None:
    address = reverse(f"admin:billing_invoice_{deed}", args=[unpaid.pk])

    assert desk.get(address).status_code == 200
    assert desk.post(address, {"reason": "r"}).status_code == 302
    till.tell()

    unpaid.refresh_from_db()
    assert unpaid.status == status
    assert organization.audit_events.filter(action=action).count() == 1
    assert desk.post(reverse("admin:billing_invoice_give_up", args=[unpaid.pk]), {"reason": "r"}).status_code == 200  # No second time.
    assert check_books() == []
