"""An invoice as PDF and its calls as CSV."""

import csv
import io
from decimal import Decimal

import pytest
from django.test import Client
from django.utils import timezone
from pypdf import PdfReader

from billing.models import UsageEvent
from marketplace.models import ApiKey, ModelVersion
from marketplace.web import invoice_files
from marketplace.web.invoice_pdf import Printed, render_pdf
from tests.marketplace.web.recorded import record_call


def read_pdf(content: bytes) -> list[str]:
    """The text of each page, with spaces for line ends."""
    return [" ".join(page.extract_text().split()) for page in PdfReader(io.BytesIO(content)).pages]


def printed(lines: int = 1, *, buyer: str = "Acme", title: str = "Invoice") -> Printed:
    line = ["farebox/sentiment@1", "$0.20 per million tokens", "39", "780 tokens", "$0.000156", "$0.00"]
    return Printed(
        title=title,
        number="202611-0123456789ab",
        period="2026-11-01 – 2026-12-01 UTC",
        state="open",
        seller=["Farebox", "https://farebox.example"],
        buyer=[buyer],
        currency="USD",
        lines=[line] * lines,
        totals=[("Total", "$0.000156", "$0.00")],
        notes=["Rounded once."],
        made_at=timezone.now(),
    )


def test_the_pdf_says_what_the_page_says(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    for tokens in range(1, 40):
        record_call(key, sentiment, tokens=tokens)

    reply = member.get("/invoices/current/invoice.pdf")

    (page,) = read_pdf(reply.content)
    assert reply["Content-Type"] == "application/pdf"
    for words in ("Upcoming invoice", key.organization.name, "farebox/sentiment@1", "39", "780 tokens", "$0.000156", "Total", "$0.00"):
        assert words in page


def test_the_pdf_speaks_the_language_of_the_page(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    record_call(key, sentiment)

    (page,) = read_pdf(member.get("/invoices/current/invoice.pdf", headers={"accept-language": "zh-hans"}).content)

    assert "价格" in page
    assert "farebox/sentiment@1" in page


def test_a_chinese_name_is_readable_in_an_english_invoice() -> None:
    (page,) = read_pdf(render_pdf(printed(buyer="北京 Acme <& Söhne>")))

    assert "北京" in page
    assert "Acme <& Söhne>" in page


def test_a_long_invoice_goes_on_over_pages_that_repeat_its_head() -> None:
    pages = read_pdf(render_pdf(printed(200)))

    assert len(pages) > 3
    assert all("Price" in page and "202611-0123456789ab" in page for page in pages[:-1])
    assert "Total" in pages[-1]


def test_the_csv_has_every_call_once_and_adds_up(
    member: Client, key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invoice_files, "_PAGE", 10)
    for tokens in range(1, 36):
        record_call(key, sentiment, tokens=tokens)

    reply = member.get("/invoices/current/calls.csv")

    rows = list(csv.DictReader(io.StringIO(reply.getvalue().decode())))  # type: ignore[attr-defined]
    assert len({row["request"] for row in rows}) == len(rows) == 35
    assert sum(Decimal(row["charge"]) for row in rows) == Decimal(sum(UsageEvent.objects.values_list("charge_nanos", flat=True))).scaleb(-9)
    assert {row["sku"] for row in rows} == {"farebox/sentiment@1"}
    assert {row["refunded"] for row in rows} == {"false"}


def test_an_empty_month_has_files_too(member: Client) -> None:
    assert b"request,occurred_at" in member.get("/invoices/current/calls.csv").getvalue()  # type: ignore[attr-defined]
    assert read_pdf(member.get("/invoices/current/invoice.pdf").content)
