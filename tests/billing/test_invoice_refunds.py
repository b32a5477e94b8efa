"""Payments of invoices that somebody gave back in the provider's dashboard: booked once, in any order, and heard of when they fail."""

import itertools
import random
from typing import Any

import pytest
from django.utils import timezone

from billing import invoice_refunds, outbox, sending
from billing.books import check_books
from billing.credit_notes import credit_invoice, refundable_to_card_cents
from billing.ids import uuid7
from billing.invoicing import CLOSE_AFTER, close_period
from billing.ledger import REVENUE, balance, ledger_balance
from billing.models import Account, CreditNote, Invoice, InvoiceRefund, OutboxRow, Price, StripeEventWork
from billing.periods import month_of
from billing.providers.base import RefundState
from billing.providers.fake import refunds
from billing.tax import TAX
from tests.billing.facts import Recorder
from tests.billing.test_collecting import CENT, DECEMBER, pay_on_the_page, theirs, use_and_close, work
from tests.till import Till

pytestmark = pytest.mark.django_db


@pytest.fixture
def paid(till: Till, postpaid: Account, dear: Price, settings: Any) -> Invoice:
    """An invoice of 30 dollars, 4.79 of them tax, that was paid by card."""
    settings.TAX_RATE_BASIS_POINTS = 1900
    invoice = use_and_close(postpaid, dear)
    work(till)
    pay_on_the_page(till)
    till.tell()
    invoice.refresh_from_db()
    assert (invoice.status, invoice.tax_cents) == ("paid", 479)
    return invoice


def refund(till: Till, **asked: Any) -> Any:
    """Refund the invoice's payment as Stripe's dashboard does."""
    return refunds.create_refund(till.world, {"payment_intent": theirs(till)["_intent"], **asked})


def test_a_refund_in_the_dashboard_becomes_a_credit_note(till: Till, postpaid: Account, paid: Invoice) -> None:
    refund(till, amount=1000)
    till.tell()

    note = CreditNote.objects.get()
    assert (note.number, note.total_cents, note.tax_cents, note.settlement, note.by) == (f"{paid.number}-C1", 1000, 160, "card", "payments")
    assert note.lines.get().amount_cents == 1000
    assert (ledger_balance(TAX), ledger_balance(REVENUE)) == (319 * CENT, (2000 - 319) * CENT)
    assert balance(postpaid).granted - balance(postpaid).spent == 0  # Neither owed nor credit: it is on the card.
    assert refundable_to_card_cents(paid) == 2000
    assert till.count("credit_note") == 0  # Nothing more is asked of Stripe.
    assert InvoiceRefund.objects.get().status == "succeeded"
    assert check_books() == []


def test_refunds_in_any_order_twice_and_before_the_payment_is_known_end_the_same(till: Till, postpaid: Account, dear: Price) -> None:
    invoice = use_and_close(postpaid, dear)
    work(till)
    pay_on_the_page(till)
    for amount in (1000, 500):
        refund(till, amount=amount)
    events = [event for event in till.events() if event["type"].startswith(("invoice.", "refund.", "charge."))]
    assert {"invoice.paid", "refund.created", "charge.refunded"} <= {event["type"] for event in events}
    shuffled = sorted(events, key=lambda event: event["type"] == "invoice.paid")  # That of the payment comes last.
    for event in itertools.chain(shuffled, random.Random(5).sample(events, len(events))):
        assert till.post(event).status_code == 200
    work(till)

    invoice.refresh_from_db()
    assert invoice.status == "paid"
    assert sorted(CreditNote.objects.values_list("total_cents", flat=True)) == [500, 1000]
    assert InvoiceRefund.objects.count() == 2
    assert balance(postpaid).granted - balance(postpaid).spent == 0
    assert check_books() == []


def test_a_refund_of_our_own_credit_note_is_not_booked_again(till: Till, postpaid: Account, paid: Invoice) -> None:
    asked = {"settlement": "card", "reason": "It was slow.", "reference": uuid7(), "by": "operator"}
    note, row = credit_invoice(paid, {paid.lines.get().pk: 700}, **asked)
    assert row is not None
    sending.deliver(row.pk)
    till.tell()

    assert CreditNote.objects.get() == note
    assert InvoiceRefund.objects.get().note == note
    assert check_books() == []


@pytest.mark.parametrize("by_us", [True, False])
def test_a_refund_that_comes_back_is_credit(till: Till, postpaid: Account, paid: Invoice, by_us: bool) -> None:
    if by_us:
        asked = {"settlement": "card", "reason": "It was slow.", "reference": uuid7(), "by": "operator"}
        _, row = credit_invoice(paid, {paid.lines.get().pk: 700}, **asked)
        assert row is not None
        sending.deliver(row.pk)
    else:
        refund(till, amount=700)
    till.tell()
    refunds.fail_refund(till.world, till.world.store.all("refund")[0])
    till.tell()
    for event in till.events()[-3:]:
        till.post(event)

    assert InvoiceRefund.objects.get().status == "failed"
    assert balance(postpaid).granted - balance(postpaid).spent == 700 * CENT
    assert CreditNote.objects.get().total_cents == 700
    assert check_books() == []


def test_what_had_paid_a_debt_from_before_is_owed_again(till: Till, postpaid: Account, dear: Price, price: Price) -> None:
    """0.40 were too little for an invoice of November, and are due with December's 3 dollars."""
    Recorder(postpaid).record(price, units=40 * CENT // price.unit_nanos, occurred_at=month_of(DECEMBER)[0].replace(month=11))
    close_period(postpaid, DECEMBER.replace(month=11), now=DECEMBER + CLOSE_AFTER)
    Recorder(postpaid).record(dear, units=3, occurred_at=DECEMBER)
    december = close_period(postpaid, DECEMBER, now=month_of(DECEMBER)[1] + CLOSE_AFTER)
    assert december.due_cents == 340
    work(till)
    pay_on_the_page(till)
    till.tell()

    refund(till)
    till.tell()

    made = InvoiceRefund.objects.get()
    assert (made.amount_cents, made.owed_cents, made.note and made.note.total_cents) == (340, 40, 300)
    assert balance(postpaid).granted - balance(postpaid).spent == -40 * CENT
    assert check_books() == []


def test_a_refund_of_somebody_elses_payment_is_ignored(till: Till, postpaid: Account, paid: Invoice) -> None:
    other = till.world.store.all("payment_intent")[0]
    refund(till, amount=100)
    theirs(till)
    invoice = theirs(till)
    invoice["metadata"] = {}
    till.world.store.save(invoice)
    till.tell()

    assert other["id"] == invoice["_intent"]
    assert not CreditNote.objects.exists()
    assert not StripeEventWork.objects.filter(outcome="waiting").exists()


def test_a_refund_made_by_hand_for_a_note_that_was_refused_is_that_notes(till: Till, postpaid: Account, paid: Invoice) -> None:
    asked = {"settlement": "card", "reason": "It was slow.", "reference": uuid7(), "by": "operator"}
    note, row = credit_invoice(paid, {paid.lines.get().pk: 700}, **asked)
    assert row is not None
    outbox.finish(row, OutboxRow.State.REFUSED, why="It was refused.")

    refund(till, amount=700)  # As the failure says: by hand.
    till.tell()

    assert CreditNote.objects.get() == note
    assert InvoiceRefund.objects.get().note == note
    assert balance(postpaid).granted - balance(postpaid).spent == 0

    refund(till, amount=700)  # Another one is another matter.
    till.tell()
    assert CreditNote.objects.count() == 2
    assert check_books() == []


def test_a_refund_heard_of_before_the_note_that_makes_it_is_there_waits_for_it(till: Till, postpaid: Account, paid: Invoice) -> None:
    asked = {"settlement": "card", "reason": "It was slow.", "reference": uuid7(), "by": "operator"}
    note, row = credit_invoice(paid, {paid.lines.get().pk: 700}, **asked)
    assert row is not None
    outbox.note_sending(row, now=timezone.now())
    state = RefundState(id="re_1", payment="pi_1", amount_cents=700, status="succeeded", reference=None)

    with pytest.raises(ValueError, match="may be its refund"):
        invoice_refunds.apply_refund(paid, state, note=None)
    assert not InvoiceRefund.objects.exists()

    sending.deliver(row.pk)
    till.tell()
    assert CreditNote.objects.get() == note
    assert InvoiceRefund.objects.get().note == note
    assert balance(postpaid).granted - balance(postpaid).spent == 0
    assert check_books() == []
