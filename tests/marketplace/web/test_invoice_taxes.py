"""What a member, a program and the operator see of an invoice whose tax Stripe computes."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pypdf import PdfReader

from billing.invoicing import close_period
from billing.ledger import grant_credit
from billing.models import Customer, Invoice, InvoiceTax
from billing.money import Nanos
from billing.periods import month_of
from billing.providers.fake import taxes
from marketplace.models import ApiKey, ModelVersion, User
from tests.marketplace.web.recorded import record_call
from tests.till import Till

UNKNOWN = "The tax within the total cannot be stated until your address is known."


@pytest.fixture
def invoice(till: Till, key: ApiKey, sentiment: ModelVersion, settings: Any) -> Invoice:
    """A month of $40.00, paid from credit, of a customer whose address is not known."""
    settings.STRIPE_TAX = True
    account = key.organization.account
    grant_credit(account, Nanos(10**11), kind="operator", reference="r", by="test")
    this_month = month_of(timezone.now())[0]
    last_month = month_of(this_month - timedelta(days=1))[0]
    record_call(key, sentiment, tokens=200_000_000, at=last_month + timedelta(days=2))
    made = close_period(account, last_month, now=this_month + timedelta(hours=2))
    work(till)
    return made


def work(till: Till) -> None:
    for _ in range(4):
        till.make_due()
        till.sweep()
    till.tell()


def live(till: Till, country: str, *, tax_id: str = "") -> None:
    """Have the customer live somewhere, and the tax be known."""
    customer = till.world.store.get("customer", Customer.objects.get().customer_id)
    taxes.set_address(till.world, customer, country, tax_id=tax_id)
    till.tell()
    work(till)


def page_of(member: Client, invoice: Invoice) -> str:
    return member.get(f"/invoices/{invoice.number}/").content.decode()


def pdf_of(member: Client, invoice: Invoice, language: str = "en") -> str:
    content = member.get(f"/invoices/{invoice.number}/invoice.pdf", headers={"accept-language": language}).content
    return " ".join(" ".join(page.extract_text().split()) for page in PdfReader(io.BytesIO(content)).pages)


def csv_of(member: Client, invoice: Invoice) -> list[tuple[str, str, str]]:
    rows = csv.DictReader(io.StringIO(member.get(f"/invoices/{invoice.number}/lines.csv").content.decode()))
    return [(row["kind"], row["what"], row["amount"]) for row in rows if row["kind"] in {"net", "tax", "total"}]


def test_until_the_address_is_known_page_and_files_say_so(member: Client, invoice: Invoice) -> None:
    page = page_of(member, invoice)

    assert UNKNOWN in page
    assert 'href="/billing/"' in page
    assert UNKNOWN in pdf_of(member, invoice)
    assert "地址" in pdf_of(member, invoice, "zh-hans")
    assert csv_of(member, invoice) == [("total", "", "40.00"), ("net", "", "40.00"), ("tax", "location", "0.00")]


def test_page_and_files_print_the_tax(member: Client, till: Till, invoice: Invoice) -> None:
    live(till, "DE")

    page, pdf = page_of(member, invoice), pdf_of(member, invoice)

    for words in ("Includes VAT (DE) of 19 %", "$6.39", "$33.61"):  # 40.00 / 1.19 = 33.613
        assert words in page
        assert words in pdf
    assert UNKNOWN not in page
    assert csv_of(member, invoice) == [("total", "", "40.00"), ("net", "", "33.61"), ("tax", "VAT (DE) standard_rated", "6.39")]


def test_reverse_charge_is_said_in_words(member: Client, till: Till, invoice: Invoice) -> None:
    live(till, "FR", tax_id="FR12345678901")

    assert "VAT (FR): reverse charge, the customer owes the tax" in page_of(member, invoice)
    assert "VAT (FR): reverse charge, the customer owes the tax" in pdf_of(member, invoice)


def test_the_api_has_each_tax_and_whether_it_is_known(client: Client, till: Till, live_key: str, invoice: Invoice) -> None:
    headers = {"authorization": f"Bearer {live_key}"}
    before = client.get(f"/v1/invoices/{invoice.number}", headers=headers).json()
    assert (before["tax_status"], before["taxes"], before["tax"]) == ("location", [], "0.00")

    live(till, "DE")

    after = client.get(f"/v1/invoices/{invoice.number}", headers=headers).json()
    assert after["tax_status"] == "known"
    assert after["taxes"] == [{"name": "VAT (DE)", "rate": "19", "amount": "6.39", "reason": "standard_rated"}]
    assert (after["net"], after["tax"]) == ("33.61", "6.39")
    assert client.get("/v1/invoices", headers=headers).json()["data"][0]["taxes"] == after["taxes"]


def test_the_operator_sees_why_and_asks_again(till: Till, operator: User, invoice: Invoice) -> None:
    desk = Client()
    desk.force_login(operator)
    assert "Invoices whose tax Stripe has not said: 1" in desk.get("/admin/").content.decode()
    address = reverse("admin:billing_invoice_change", args=[invoice.pk])
    assert "customer_tax_location_invalid" in desk.get(address).content.decode()
    customer = till.world.store.get("customer", Customer.objects.get().customer_id)
    taxes.set_address(till.world, customer, "DE")  # And the webhook is lost.

    desk.post(reverse("admin:billing_invoice_ask_tax_again", args=[invoice.pk]))
    for _ in range(3):
        till.sweep()

    assert InvoiceTax.objects.get().status == "known"
    assert "Includes VAT (DE) of 19 %" in desk.get(address).content.decode()
