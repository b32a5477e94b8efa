"""Tests of Stripe Tax: what each closed invoice includes, entered once, whatever goes wrong; credit notes take their part back."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing import credit_lines, credit_notes, sending, taxing
from billing.books import check_books
from billing.credit_notes import credit_invoice, note_refund
from billing.customers import ensure_customer
from billing.errors import CreditNoteInvalid
from billing.ids import uuid7
from billing.invoicing import CLOSE_AFTER, close_period
from billing.ledger import REVENUE, grant_free_credit, ledger_balance, open_account
from billing.models import Account, Customer, Invoice, InvoiceTax, LedgerTransaction, Notice, OutboxRow, Price
from billing.money import NANOS_PER_CENT as CENT
from billing.money import Nanos
from billing.periods import EPOCH, month_of
from billing.providers.fake import taxes
from billing.providers.fake.world import Fault
from tests.billing.facts import Recorder
from tests.till import TIMEOUT_S, Till

pytestmark = pytest.mark.django_db
# The month before this one: Stripe knows the rates of its last day.
MONTH = month_of(month_of(timezone.now())[0] - timedelta(days=1))[0]


@pytest.fixture(autouse=True)
def _on(settings: Any) -> None:
    settings.STRIPE_TAX = True


@pytest.fixture
def dear() -> Price:
    """One dollar a call."""
    return Price.objects.create(sku="house/dear@1", unit="call", unit_nanos=100 * CENT, effective_from=EPOCH)


def close(account: Account, dear: Price, dollars: int) -> Invoice:
    """Use so much in the month, and close it."""
    Recorder(account).record(dear, units=dollars, occurred_at=MONTH + timedelta(days=3))
    return close_period(account, MONTH, now=month_of(MONTH)[1] + CLOSE_AFTER)


def live(till: Till, account: Account, country: str, *, tax_id: str = "") -> None:
    """Have the account's customer made, and live somewhere."""
    till.sweep()
    customer = till.world.store.get("customer", Customer.objects.get(account=account).customer_id)
    taxes.set_address(till.world, customer, country, tax_id=tax_id)


def deliver(till: Till, times: int = 3) -> None:
    for _ in range(times):
        till.make_due()
        sending.sweep()


def taxed(till: Till, account: Account, dear: Price, country: str, dollars: int = 8, *, tax_id: str = "") -> Invoice:
    """Close a month of an account that lives somewhere, and have its tax known."""
    invoice = close(account, dear, dollars)
    live(till, account, country, tax_id=tax_id)
    till.tell()
    deliver(till)
    invoice.refresh_from_db()
    return invoice


def recorded(till: Till) -> list[tuple[str, int, int]]:
    """What Stripe's reports have: reference, amount and tax."""
    return [(one["reference"], one["_total"], one["_tax"]) for one in till.world.store.all("tax.transaction")[::-1]]


def test_the_tax_within_a_closed_invoice_is_entered_and_recorded(till: Till, account: Account, dear: Price) -> None:
    invoice = taxed(till, account, dear, "DE")

    # 8.00 / 1.19 = 6.7227
    assert (invoice.total_cents, invoice.tax_cents) == (800, 128)
    (line,) = InvoiceTax.objects.get().lines
    assert line == {"name": "VAT (DE)", "percent": "19", "amount_cents": 128, "taxable_cents": 672, "reason": "standard_rated"}
    assert (ledger_balance("tax"), ledger_balance(REVENUE)) == (128 * CENT, 672 * CENT)
    assert recorded(till) == [(invoice.number, 800, 128)]
    assert check_books() == []


@pytest.mark.parametrize(
    ("country", "tax_id", "tax", "reason"),
    [
        ("FR", "", 133, "standard_rated"),  # 8.00 / 1.20
        ("CH", "", 60, "standard_rated"),  # 8.00 / 1.081 = 7.4006
        ("FR", "FR12345678901", 0, "reverse_charge"),
        ("DE", "DE123456789", 128, "standard_rated"),  # At home it is charged to businesses, too.
        ("US-OR", "", 0, "not_collecting"),
    ],
)
def test_it_is_the_customers_own_countrys(  # noqa: PLR0917 (a table of cases)
    till: Till, account: Account, dear: Price, country: str, tax_id: str, tax: int, reason: str
) -> None:
    invoice = taxed(till, account, dear, country, tax_id=tax_id)

    assert invoice.tax_cents == tax
    assert [line["reason"] for line in InvoiceTax.objects.get().lines] == [reason]
    assert check_books() == []


def test_switched_off_the_stated_rate_holds(till: Till, account: Account, dear: Price, settings: Any) -> None:
    settings.STRIPE_TAX, settings.TAX_RATE_BASIS_POINTS = False, 1000

    invoice = close(account, dear, 8)

    assert (invoice.tax_basis_points, invoice.tax_cents) == (1000, 73)
    assert not InvoiceTax.objects.exists()


def test_switched_on_no_rate_is_stated_beside_it(till: Till, account: Account, dear: Price, settings: Any) -> None:
    settings.TAX_RATE_BASIS_POINTS = 1000

    invoice = close(account, dear, 8)

    assert (invoice.tax_name, invoice.tax_basis_points, invoice.tax_cents) == ("", 0, 0)
    assert InvoiceTax.objects.get().status == "waiting"


def test_what_was_given_away_is_not_taxed(till: Till, dear: Price) -> None:
    account = open_account(name="free")
    grant_free_credit(account, amount_nanos=Nanos(500 * CENT), pool_limit_nanos=Nanos(10**13), reference="free:1")

    close(account, dear, 1)

    assert not InvoiceTax.objects.exists()


def test_a_postpaid_month_is_collected_whether_or_not_its_tax_is_known(till: Till, account: Account, dear: Price) -> None:
    credit_lines.set_credit_line(account, 10**12)

    invoice = close(account, dear, 30)
    deliver(till, times=6)

    invoice.refresh_from_db()
    assert (invoice.due_cents, bool(invoice.hosted_url)) == (2000, True)
    assert InvoiceTax.objects.get().status == "location"


@pytest.mark.parametrize("kind", ["timeout_after", "timeout_before", "error_500", "error_500_after", "rate_limit", "conflict"])
def test_whatever_goes_wrong_it_is_entered_and_recorded_once(till: Till, account: Account, dear: Price, kind: str) -> None:
    ensure_customer(account)
    live(till, account, "DE")
    invoice = close(account, dear, 8)
    till.world.faults.waiting = [
        Fault(kind=kind, match=f"/v1/tax/{route}", seconds=TIMEOUT_S + 0.2) for route in ("calculations", "transactions")
    ]

    deliver(till, times=6)

    invoice.refresh_from_db()
    assert not till.world.faults.waiting
    assert invoice.tax_cents == 128
    assert recorded(till) == [(invoice.number, 800, 128)]
    assert InvoiceTax.objects.get().recorded_at is not None
    assert LedgerTransaction.objects.filter(kind="tax").count() == 1
    assert check_books() == []


def test_without_a_location_it_waits_visibly_and_goes_on_by_itself(till: Till, account: Account, dear: Price) -> None:
    invoice = close(account, dear, 8)
    deliver(till)

    tax = InvoiceTax.objects.get()
    assert tax.status == "location"
    assert "customer_tax_location_invalid" in tax.failure
    assert list(Notice.objects.values_list("kind", "subject")) == [("tax_location", invoice.number)]
    assert ledger_balance("tax") == 0
    assert check_books() == []

    live(till, account, "DE")  # The customer adds an address, and Stripe tells.
    till.tell()
    deliver(till)

    invoice.refresh_from_db()
    assert (invoice.tax_cents, InvoiceTax.objects.get().status) == (128, "known")
    assert recorded(till) == [(invoice.number, 800, 128)]


def test_a_credit_note_takes_its_part_of_the_tax_back(till: Till, account: Account, dear: Price) -> None:
    invoice = taxed(till, account, dear, "DE")
    line = invoice.lines.get()

    notes = []
    for cents in (333, 333, 134):
        note, _ = credit_invoice(invoice, {line.pk: cents}, settlement="credit", reason="Late", reference=uuid7(), by="test")
        notes.append(note)
    deliver(till)

    # 128 * 333 / 800 = 53.28, 128 * 666 / 800 = 106.56, and all of it in the end.
    assert [note.tax_cents for note in notes] == [53, 54, 21]
    assert ledger_balance("tax") == 0
    assert recorded(till) == [(invoice.number, 800, 128), *((note.number, -note.total_cents, -note.tax_cents) for note in notes)]
    assert check_books() == []


def test_an_invoice_whose_tax_is_not_known_is_not_corrected_yet(till: Till, account: Account, dear: Price) -> None:
    invoice = close(account, dear, 8)

    with pytest.raises(CreditNoteInvalid, match="tax"):
        credit_invoice(invoice, {invoice.lines.get().pk: 100}, settlement="credit", reason="Late", reference=uuid7(), by="test")

    assert not invoice.credit_notes.exists()
    assert credit_notes.creditable_cents(invoice) == {invoice.lines.get().pk: 800}


def test_what_was_refunded_before_the_tax_was_known_is_not_taxed(till: Till, account: Account, dear: Price) -> None:
    invoice = close(account, dear, 8)
    note = note_refund(invoice, {invoice.lines.get().pk: 300}, reason="There", reference=uuid7(), by="test")
    live(till, account, "DE")
    till.tell()

    deliver(till)

    invoice.refresh_from_db()
    assert (note.tax_cents, invoice.tax_cents) == (0, 80)  # 5.00 / 1.19 = 4.2017
    assert recorded(till) == [(invoice.number, 500, 80)]
    assert check_books() == []

    notes = []
    for cents in (100, 400):
        later, _ = credit_invoice(
            invoice, {invoice.lines.get().pk: cents}, settlement="credit", reason="Late", reference=uuid7(), by="test"
        )
        notes.append(later.tax_cents)
    assert (notes, ledger_balance("tax")) == ([16, 64], 0)  # Of the 5.00 alone.


def test_what_is_refunded_while_the_tax_is_computed_is_not_taxed(
    till: Till, account: Account, dear: Price, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_customer(account)
    live(till, account, "DE")
    invoice = close(account, dear, 8)
    step = sending.STEPS[taxing.CALCULATE]
    ask = step.ask

    def ask_then_refund(row: OutboxRow) -> Any:
        state = ask(row)
        if not invoice.credit_notes.exists():
            note_refund(invoice, {invoice.lines.get().pk: 300}, reason="There", reference=uuid7(), by="test")
        return state

    monkeypatch.setattr(step, "ask", ask_then_refund)
    deliver(till, times=4)

    invoice.refresh_from_db()
    assert (invoice.tax_cents, ledger_balance("tax")) == (80, 80 * CENT)
    assert recorded(till) == [(invoice.number, 500, 80)]
    assert check_books() == []


def test_an_address_that_comes_long_after_gets_the_rates_of_then(till: Till, account: Account, dear: Price) -> None:
    """Stripe refuses dates of more than 31 days ago: asked with the month's last day for ever, it would never be known."""
    before = month_of(MONTH - timedelta(days=1))[0]
    Recorder(account).record(dear, units=8, occurred_at=before + timedelta(days=3))
    invoice = close_period(account, before, now=MONTH + CLOSE_AFTER)
    OutboxRow.objects.filter(kind=taxing.CALCULATE).update(created_at=MONTH + CLOSE_AFTER)

    live(till, account, "DE")
    till.tell()
    deliver(till)

    assert InvoiceTax.objects.get().status == "known"
    assert recorded(till) == [(invoice.number, 800, 128)]


def test_a_note_waits_until_the_tax_it_lowers_is_recorded(till: Till, account: Account, dear: Price) -> None:
    invoice = taxed(till, account, dear, "DE")
    InvoiceTax.objects.update(recorded_at=None)
    note, _ = credit_invoice(invoice, {invoice.lines.get().pk: 100}, settlement="credit", reason="Late", reference=uuid7(), by="test")
    deliver(till)
    assert OutboxRow.objects.get(kind=taxing.REVERSE).state == "waiting"

    InvoiceTax.objects.update(recorded_at=timezone.now())
    deliver(till)

    assert recorded(till)[1:] == [(note.number, -100, -16)]


def test_a_record_whose_id_was_lost_is_said_and_not_reversed(till: Till, account: Account, dear: Price) -> None:
    invoice = taxed(till, account, dear, "DE")
    InvoiceTax.objects.update(record_id="")
    credit_invoice(invoice, {invoice.lines.get().pk: 100}, settlement="credit", reason="Late", reference=uuid7(), by="test")

    deliver(till)

    assert "by hand" in InvoiceTax.objects.get().failure
    assert len(recorded(till)) == 1


def test_checkout_asks_for_the_address_and_tax_id_that_tax_needs(till: Till, settings: Any) -> None:
    account = open_account(name="new")
    session = till.session(till.start(account))
    assert session["billing_address_collection"] == "required"
    assert (session["_asks_tax_id"], session["_keeps_address"]) == (True, True)

    settings.STRIPE_TAX = False
    assert till.session(till.start(open_account(name="other")))["billing_address_collection"] is None
