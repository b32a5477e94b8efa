"""Lost disputes: which calls are refunded, how far, and once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing import credit_lines, losses
from billing.books import check_books
from billing.ledger import balance, grant_credit, open_account
from billing.models import Account, CreditReversal, Dispute, Price, UsageEvent
from billing.money import Nanos
from billing.providers.fake import refunds
from tests.billing.facts import Recorder
from tests.billing.payees import CENT
from tests.till import Till

pytestmark = pytest.mark.django_db


@pytest.fixture
def customer(till: Till) -> Account:
    """An account that bought 25 dollars of credit with a card that will dispute it."""
    opened = open_account(name="customer")
    till.top_up(opened, 2500, card="0259")
    return opened


def decide(till: Till, *, won: bool) -> None:
    """Have the bank decide."""
    refunds.close_dispute(till.world, till.world.store.all("dispute")[0], won=won)
    till.tell()


def use(account: Account, price: Price, *cents: int) -> list[UsageEvent]:
    """Make a call of each price, a second apart."""
    recorder, now = Recorder(account), datetime.now(UTC)
    units = [each * CENT // price.unit_nanos for each in cents]
    return [recorder.record(price, units=each, occurred_at=now + timedelta(seconds=number)) for number, each in enumerate(units, 1)]


def refunded(events: list[UsageEvent]) -> list[bool]:
    """Return which calls are refunded."""
    return [hasattr(UsageEvent.objects.get(pk=event.pk), "refund") for event in events]


def test_what_the_money_had_paid_for_is_refunded_and_nothing_is_owed(till: Till, customer: Account, price: Price) -> None:
    events = use(customer, price, 600, 500, 400)
    decide(till, won=False)
    assert balance(customer).spent - balance(customer).granted == 1500 * CENT

    assert losses.refund_lost_disputes() == 3
    assert losses.refund_lost_disputes() == 0

    assert refunded(events) == [True, True, True]
    now = balance(customer)
    assert (now.granted, now.spent) == (0, 0)
    dispute = Dispute.objects.get()
    assert dispute.refunded_nanos == 1500 * CENT
    assert dispute.refunded_at is not None
    assert check_books() == []


def test_calls_that_other_money_paid_for_are_not(till: Till, customer: Account, price: Price) -> None:
    grant_credit(customer, Nanos(1000 * CENT), kind="operator", reference="test:more", by="test")
    events = use(customer, price, 900, 800, 700)  # 24 of 35 dollars; 14 of them are not covered by the 10 that stay.
    decide(till, won=False)

    losses.refund_lost_disputes()

    # The newest whole calls within 14 dollars: 7; 8 more would be too much.
    assert refunded(events) == [False, False, True]
    assert balance(customer).spent - balance(customer).granted == 700 * CENT


def test_an_unspent_payment_refunds_nothing(till: Till, customer: Account, price: Price) -> None:
    decide(till, won=False)

    assert losses.refund_lost_disputes() == 0
    assert Dispute.objects.get().refunded_at is not None


def test_calls_on_a_credit_line_were_not_paid_by_an_unspent_payment(till: Till, customer: Account, price: Price) -> None:
    credit_lines.set_credit_line(customer, 5000 * CENT)
    events = use(customer, price, 600, 500)  # After the bank took the 25 dollars: owed by the line.
    decide(till, won=False)

    assert losses.refund_lost_disputes() == 0

    assert refunded(events) == [False, False]
    assert balance(customer).spent - balance(customer).granted == 1100 * CENT
    assert check_books() == []


def test_of_an_account_with_a_credit_line_what_the_payment_paid_for_is_refunded(till: Till, price: Price) -> None:
    account = open_account(name="postpaid")
    credit_lines.set_credit_line(account, 5000 * CENT)
    till.top_up(account, 1000)
    paid = [Recorder(account).record(price, units=600 * CENT // price.unit_nanos)]
    refunds.open_dispute(till.world, till.world.store.all("charge")[0])
    till.tell()
    owed = use(account, price, 300, 200)
    decide(till, won=False)

    assert CreditReversal.objects.get().spent_nanos == 600 * CENT
    losses.refund_lost_disputes()

    assert refunded([*paid, *owed]) == [True, False, False]
    assert Dispute.objects.get().refunded_nanos == 600 * CENT
    assert balance(account).spent - balance(account).granted == 500 * CENT
    assert check_books() == []


@pytest.mark.parametrize("state", ["open", "won"])
def test_a_dispute_that_is_not_lost_refunds_nothing(till: Till, customer: Account, price: Price, state: str) -> None:
    events = use(customer, price, 600)
    if state == "won":
        decide(till, won=True)

    assert losses.refund_lost_disputes() == 0
    assert refunded(events) == [False]


def test_more_calls_than_one_batch(till: Till, customer: Account, price: Price, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_BATCH", 2)
    use(customer, price, *[100] * 5)
    decide(till, won=False)

    assert losses.refund_lost_disputes() == 5
    assert balance(customer).spent == 0


def test_the_operator_may_have_the_customer_owe_it(till: Till, customer: Account, price: Price, settings: Any) -> None:
    settings.LOST_DISPUTES_REFUND_CALLS = False
    events = use(customer, price, 600)
    decide(till, won=False)

    assert losses.refund_lost_disputes() == 0
    assert refunded(events) == [False]
