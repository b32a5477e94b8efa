"""Corrections of closed invoices: exact, once, in the ledger and at Stripe, into credit or back to the card."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from billing import credit_lines, sending
from billing.books import check_books
from billing.credit_notes import credit_invoice, creditable_cents, refundable_to_card_cents
from billing.errors import CreditNoteInvalid
from billing.ids import uuid7
from billing.invoicing import CLOSE_AFTER, close_period
from billing.ledger import REVENUE, balance, ledger_balance
from billing.models import Account, CreditNote, Invoice, Price
from billing.money import NANOS_PER_CENT as CENT
from billing.periods import EPOCH
from billing.providers.fake import invoice_pages
from billing.providers.fake.world import Fault
from billing.tax import TAX
from tests.billing.facts import CREDIT_NANOS, Recorder
from tests.till import HANG_S, Till, work

pytestmark = pytest.mark.django_db
NOVEMBER, DECEMBER = datetime(2025, 11, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC)


@pytest.fixture
def dear() -> Price:
    """A dollar a call."""
    return Price.objects.create(sku="house/dear@1", unit="call", unit_nanos=100 * CENT, effective_from=EPOCH)


def closed(account: Account, dear: Price, units: int) -> Invoice:
    Recorder(account).record(dear, units=units, occurred_at=NOVEMBER)
    return close_period(account, NOVEMBER, now=DECEMBER + CLOSE_AFTER)


def credit(invoice: Invoice, cents: int, settlement: str = "credit", **named: Any) -> CreditNote:
    asked = {"reason": "It was slow.", "reference": uuid7(), "by": "operator", **named}
    note, row = credit_invoice(invoice, {invoice.lines.get().pk: cents}, settlement=settlement, **asked)
    if row:
        sending.deliver(row.pk)
    return note


def pay(till: Till) -> None:
    path = till.world.store.all("invoice")[0]["hosted_invoice_url"].split("/invoice/")[1]
    assert invoice_pages.hosted(till.world, path, {"choice": "4242"})[0] == 200
    till.tell()


def test_a_prepaid_month_is_corrected_into_credit_with_its_tax(account: Account, dear: Price, settings: Any) -> None:
    settings.TAX_RATE_BASIS_POINTS = 1900
    invoice = closed(account, dear, 5)

    first, second = credit(invoice, 101), credit(invoice, 399)

    assert (first.number, second.number) == (f"{invoice.number}-C1", f"{invoice.number}-C2")
    assert first.tax_cents + second.tax_cents == invoice.tax_cents == 80
    assert (ledger_balance(TAX), ledger_balance(REVENUE)) == (0, 0)
    assert balance(account).granted - balance(account).spent == CREDIT_NANOS
    assert creditable_cents(invoice) == {invoice.lines.get().pk: 0}
    assert check_books() == []


@pytest.mark.parametrize(("cents", "settlement"), [(0, "credit"), (-1, "credit"), (501, "credit"), (1, "card")])
def test_what_cannot_be_taken_back_changes_nothing(account: Account, dear: Price, cents: int, settlement: str) -> None:
    invoice = closed(account, dear, 5)

    with pytest.raises(CreditNoteInvalid):
        credit(invoice, cents, settlement)

    assert not CreditNote.objects.exists()
    assert check_books() == []


def test_a_reference_credits_once_and_notes_never_change(account: Account, dear: Price) -> None:
    invoice, reference = closed(account, dear, 5), uuid7()

    assert credit(invoice, 100, reference=reference).pk == credit(invoice, 100, reference=reference).pk

    assert CreditNote.objects.count() == 1
    with pytest.raises(IntegrityError), transaction.atomic():
        CreditNote.objects.update(total_cents=1)


def test_a_note_before_the_payment_lowers_what_is_due(till: Till, account: Account, dear: Price) -> None:
    credit_lines.set_credit_line(account, 10**12)
    invoice = closed(account, dear, 30)
    work(till)

    note = credit(invoice, 500)
    pay(till)

    invoice.refresh_from_db()
    assert note.lowers_due
    assert (invoice.due_cents, invoice.paid_cents, invoice.status) == (2000, 1500, "paid")
    assert till.world.store.all("credit_note")[0]["type"] == "pre_payment"
    assert balance(account).granted == balance(account).spent
    assert check_books() == []


def test_a_note_over_all_that_is_due_settles_the_invoice(till: Till, account: Account, dear: Price) -> None:
    credit_lines.set_credit_line(account, 10**12)
    invoice = closed(account, dear, 30)
    work(till)
    with pytest.raises(CreditNoteInvalid):
        credit(invoice, 2001)

    credit(invoice, 2000)
    till.tell()

    invoice.refresh_from_db()
    assert (invoice.status, invoice.paid_cents) == ("paid", 0)
    assert check_books() == []


@pytest.mark.parametrize("kind", ["", "timeout_after", "error_500_after", "rate_limit"])
def test_a_paid_invoice_is_given_back_to_its_card_once(till: Till, account: Account, dear: Price, kind: str) -> None:
    credit_lines.set_credit_line(account, 10**12)
    invoice = closed(account, dear, 30)
    work(till)
    pay(till)
    if kind:
        till.world.faults.waiting.append(Fault(kind=kind, match="POST /v1/credit_notes", seconds=HANG_S))

    credit(invoice, 700, "card")
    work(till)

    invoice.refresh_from_db()
    assert refundable_to_card_cents(invoice) == 1300
    assert (till.count("credit_note"), till.count("refund")) == (1, 1)
    assert till.world.store.all("refund")[0]["amount"] == 700
    assert ledger_balance("payments") == -1300 * CENT
    assert balance(account).granted == balance(account).spent
    assert check_books() == []


def test_a_paid_invoice_is_corrected_into_credit_outside_of_stripes_balance(till: Till, account: Account, dear: Price) -> None:
    credit_lines.set_credit_line(account, 10**12)
    invoice = closed(account, dear, 30)
    work(till)
    pay(till)

    credit(Invoice.objects.get(pk=invoice.pk), 700)

    assert till.world.store.all("credit_note")[0]["out_of_band_amount"] == 700
    assert balance(account).granted - balance(account).spent == 700 * CENT
    assert check_books() == []
