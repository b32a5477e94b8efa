"""What a member sees of a month paid afterwards: the invoice, its files, the banner, the page that pays."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pypdf import PdfReader

from billing import credit_lines, tasks
from billing.books import check_books
from billing.credit_notes import credit_invoice
from billing.dunning import grace
from billing.ids import uuid7
from billing.invoicing import close_period
from billing.models import Invoice
from billing.periods import month_of
from billing.providers.fake import invoice_pages
from marketplace import payments
from marketplace.models import ApiKey, ModelVersion, WebhookMessage
from marketplace.webhooks import invoice_notices
from marketplace.webhooks.endpoints import register_endpoint
from tests.marketplace.web.recorded import record_call
from tests.till import Till, work


@pytest.fixture
def unpaid(till: Till, key: ApiKey, sentiment: ModelVersion, settings: Any) -> Invoice:
    """An invoice of 40.00 with 19 % tax in it, ready to be paid."""
    settings.TAX_RATE_BASIS_POINTS, settings.TAX_NAME, settings.INVOICE_SELLER_TAX_ID = 1900, "USt.", "DE123456789"
    account = key.organization.account
    this_month = month_of(timezone.now())[0]
    last_month = month_of(this_month - timedelta(days=1))[0]
    record_call(key, sentiment, tokens=200_000_000, at=last_month + timedelta(days=2))
    credit_lines.set_credit_line(account, 10**12)
    invoice = close_period(account, last_month, now=this_month + timedelta(hours=2))
    work(till)
    return Invoice.objects.get(pk=invoice.pk)


def text_of(member: Client, address: str) -> str:
    return member.get(address).content.decode()


def pdf_of(member: Client, invoice: Invoice, language: str = "en") -> str:
    content = member.get(f"/invoices/{invoice.number}/invoice.pdf", headers={"accept-language": language}).content
    return " ".join(" ".join(page.extract_text().split()) for page in PdfReader(io.BytesIO(content)).pages)


def test_an_unpaid_invoice_shows_where_to_pay_its_tax_and_what_is_due(member: Client, unpaid: Invoice) -> None:
    page = text_of(member, f"/invoices/{unpaid.number}/")

    assert unpaid.due_cents > 0
    assert unpaid.hosted_url in page
    for words in ("to be paid", "Includes USt. of 19 %", "DE123456789", "Due on", "Issued"):
        assert words in page
    assert "to be paid" in text_of(member, "/invoices/")


def test_the_pdf_says_the_same_in_both_languages(member: Client, unpaid: Invoice) -> None:
    english, chinese = pdf_of(member, unpaid), pdf_of(member, unpaid, "zh-hans")

    for words in (
        f"Issued {unpaid.created_at:%Y-%m-%d}",
        "Net",
        "Includes USt. of 19 %",
        "to be paid",
        "DE123456789",
        f"${unpaid.due_cents / 100:.2f}",
        f"${unpaid.tax_cents / 100:.2f}",
    ):
        assert words in english
    assert "净额" in chinese
    assert "待支付" in chinese


def test_the_lines_as_csv_add_up(member: Client, unpaid: Invoice) -> None:
    reply = member.get(f"/invoices/{unpaid.number}/lines.csv")

    rows = list(csv.DictReader(io.StringIO(reply.content.decode())))
    amounts = {row["kind"]: round(float(row["amount"]) * 100) for row in rows}
    assert amounts["total"] == amounts["net"] + amounts["tax"] == sum(line.amount_cents for line in unpaid.lines.all())
    assert amounts["due"] == amounts["total"] + amounts["credit"] == unpaid.due_cents


def test_a_missed_invoice_is_told_on_every_page_until_it_is_paid(member: Client, till: Till, unpaid: Invoice) -> None:
    assert 'id="pressing"' not in text_of(member, "/dashboard/")
    Invoice.objects.update(due_at=timezone.now() - timedelta(hours=1))
    tasks.dun()
    page = text_of(member, "/dashboard/")
    assert "was not paid" in page
    assert "are refused from" in page
    assert unpaid.hosted_url in page

    Invoice.objects.update(past_due_at=timezone.now() - grace())
    tasks.dun()
    assert "answer 402 until it is" in text_of(member, "/billing/")

    path = unpaid.hosted_url.split("/invoice/")[1]
    assert invoice_pages.hosted(till.world, path, {"choice": "4242"})[0] == 200
    till.tell()
    assert 'id="pressing"' not in text_of(member, "/dashboard/")
    assert check_books() == []


def test_its_owners_are_mailed_at_each_step(till: Till, unpaid: Invoice, mailoutbox: list[Any]) -> None:
    Invoice.objects.update(due_at=timezone.now() - timedelta(hours=1))
    tasks.dun()
    Invoice.objects.update(past_due_at=timezone.now() - grace())
    tasks.dun()
    invoice_pages.hosted(till.world, unpaid.hosted_url.split("/invoice/")[1], {"choice": "4242"})
    till.tell()

    assert payments.send_notices() == 4
    assert payments.send_notices() == 0
    subjects = sorted(mail.subject for mail in mailoutbox)
    assert len(subjects) == 4
    assert all(unpaid.number in mail.body for mail in mailoutbox)


def test_its_webhooks_are_told_once_each(till: Till, unpaid: Invoice) -> None:
    organization = unpaid.account.organization
    owner = organization.members.first()
    register_endpoint(organization, url="https://hooks.example/x", events=["*"], description="", by=owner)
    Invoice.objects.update(due_at=timezone.now() - timedelta(hours=1))
    tasks.dun()
    invoice_notices.look()
    invoice_pages.hosted(till.world, unpaid.hosted_url.split("/invoice/")[1], {"choice": "4242"})
    till.tell()

    invoice_notices.look()
    invoice_notices.look()

    told = sorted(WebhookMessage.objects.filter(type__startswith="invoice.").values_list("type", flat=True))
    assert told == ["invoice.finalized", "invoice.paid", "invoice.payment_failed"]


def test_a_credit_note_stands_on_the_page_and_in_the_pdf(member: Client, unpaid: Invoice) -> None:
    credit_invoice(unpaid, {unpaid.lines.get().pk: 119}, settlement="credit", reason="It was slow.", reference=uuid7(), by="operator")

    page = text_of(member, f"/invoices/{unpaid.number}/")
    assert "It was slow." in page
    assert f"{unpaid.number}-C1" in page
    assert "It was slow." in pdf_of(member, unpaid)


def test_billing_details_are_printed_on_the_next_invoices_alone(member: Client, unpaid: Invoice, key: ApiKey) -> None:
    reply = member.post("/billing/details/", {"name": "Acme GmbH", "address": "Ring 2\nWien", "tax_id": "ATU1"})

    assert reply.status_code == 302
    assert "Acme GmbH" in text_of(member, "/billing/details/")
    assert "ATU1" in text_of(member, "/invoices/current/")
    assert "ATU1" not in text_of(member, f"/invoices/{unpaid.number}/")
    assert key.organization.audit_events.filter(action="billing_details.set").exists()
    assert member.post("/billing/details/", {"tax_id": "x" * 41}).status_code == 422
