"""What can be sent of real shares: after refunds, and while a customer's payment is disputed."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing import losses, payout_runs, sending
from billing.books import check_books
from billing.credit_lines import set_credit_line
from billing.ledger import open_account
from billing.models import Account, Dispute, Invoice, PayoutReversal, Price, TopUp
from billing.payable import Payable, find_payable
from billing.periods import month_of
from billing.posting import post_usage
from billing.providers.fake import refunds
from billing.refunding import refund_event
from billing.statements import months_of, statement_of
from tests.billing.payees import CENT, fund_platform, later, owed, pay, sell
from tests.till import Till

pytestmark = pytest.mark.django_db


def now_payable(account: Account, *, days: int = 200) -> Payable:
    """Return what can be sent some days later."""
    found = find_payable(account, currency="usd", now=later(days))
    assert found is not None
    return found


def disputing(till: Till, cents: int = 5000) -> Account:
    """Return a customer that topped up some hours ago with a card whose owner disputes it."""
    customer = open_account(name="disputing")
    till.top_up(customer, cents, card="0259")
    TopUp.objects.filter(account=customer).update(settled_at=timezone.now() - timedelta(hours=6))
    return customer


def decide(till: Till, *, won: bool) -> None:
    """Have the bank decide."""
    refunds.close_dispute(till.world, till.world.store.all("dispute")[0], won=won)
    till.tell()


def test_a_share_is_earned_sent_and_in_the_statement(till: Till, payee: Account, price: Price) -> None:
    sell(payee, fund_platform(till), price, 1000, 1000)
    assert now_payable(payee, days=0).nanos == 0  # On hold.

    pay(payee)
    sending.sweep()

    sheet = statement_of(payee, month=timezone.now() - timedelta(hours=2))
    (line,) = sheet.lines
    assert (line.events, line.charge, line.refunds, line.fee, line.share) == (2, 2000 * CENT, 0, 300 * CENT, 1700 * CENT)
    assert [(one.currency, one.share) for one in months_of(payee)] == [("usd", 1700 * CENT)]
    assert sum(total.sent for total in statement_of(payee, month=timezone.now()).totals) == 1700 * CENT
    assert owed(payee) == 0
    assert check_books() == []


def test_a_refund_takes_the_share_back_and_after_it_was_sent_it_is_asked_back(till: Till, payee: Account, price: Price) -> None:
    call, _ = sell(payee, fund_platform(till), price, 1000, 2000)
    pay(payee)
    sending.sweep()

    refund_event(call.pk, reason="wrong answer", by="test")
    post_usage(now=timezone.now())
    assert owed(payee) == -850 * CENT
    pay(payee)
    sending.sweep()

    assert PayoutReversal.objects.get().amount_cents == 850
    assert owed(payee) == 0
    (line,) = statement_of(payee, month=timezone.now() - timedelta(hours=2)).lines
    assert (line.events, line.refunds, line.share) == (1, -1000 * CENT, 1700 * CENT)
    assert check_books() == []


def test_what_an_old_share_loses_is_not_sent_of_a_young_one(till: Till, payee: Account, price: Price) -> None:
    customer = fund_platform(till)
    call, _ = sell(payee, customer, price, 1000, 1000)
    refund_event(call.pk, reason="test", by="test")
    post_usage(now=timezone.now())

    # All was posted just now, so all is on hold; of 17 dollars 8.50 were taken back.
    payable = now_payable(payee, days=13)
    assert (payable.balance, payable.on_hold, payable.nanos) == (850 * CENT, 850 * CENT, 0)
    assert now_payable(payee).nanos == 850 * CENT


def test_shares_of_calls_paid_with_disputed_money_are_frozen_until_it_is_won(till: Till, payee: Account, price: Price) -> None:
    sell(payee, fund_platform(till), price, 1000)
    sell(payee, disputing(till), price, 2000)
    assert Dispute.objects.get().status == "open"

    payable = now_payable(payee)
    assert (payable.balance, payable.disputed, payable.nanos) == (2550 * CENT, 1700 * CENT, 850 * CENT)
    assert pay(payee) is None  # Less than the minimum is left.

    decide(till, won=True)
    payout = pay(payee)
    assert payout is not None
    assert payout.amount_cents == 2550


def test_shares_of_calls_on_a_credit_line_wait_before_there_is_an_invoice(till: Till, payee: Account, price: Price) -> None:
    customer = open_account(name="pays afterwards")
    set_credit_line(customer, 100 * 10**9)
    customer.refresh_from_db()
    sell(payee, customer, price, 1000, 1000)

    assert (now_payable(payee).unpaid, now_payable(payee).nanos) == (1700 * CENT, 0)

    till.top_up(customer, 2000)
    assert (now_payable(payee).unpaid, now_payable(payee).nanos > 0) == (0, True)


def test_no_more_than_the_disputed_amount_is_frozen(till: Till, payee: Account, price: Price) -> None:
    sell(payee, disputing(till, 1500), price, 1000, 1000, 1000)

    assert now_payable(payee).disputed == 1500 * CENT


def test_calls_before_the_disputed_payment_are_not_concerned(till: Till, payee: Account, price: Price) -> None:
    customer = disputing(till)
    sell(payee, customer, price, 2000, hours_ago=20)

    assert now_payable(payee).disputed == 0


def test_a_lost_dispute_takes_the_shares_back(till: Till, payee: Account, price: Price) -> None:
    customer = disputing(till)
    sell(payee, customer, price, 1000, 1000)
    payout_runs.pay_providers(now=later(), by="test")
    decide(till, won=False)

    losses.refund_lost_disputes()
    post_usage(now=timezone.now())

    assert owed(payee) == 0
    assert now_payable(payee).disputed == 0
    assert check_books() == []


@pytest.mark.parametrize(
    ("invoice", "kept"),
    [
        (("open", 2000, 0), 1700),
        (("past_due", 900, 200), 700),
        (("uncollectible", 2000, 0), 1700),
        (("paid", 2000, 2000), 0),
        (("void", 2000, 0), 0),
    ],
)
def test_shares_of_what_a_customer_has_not_paid_wait(
    till: Till, payee: Account, price: Price, invoice: tuple[str, int, int], kept: int
) -> None:
    status, due, paid = invoice
    customer = fund_platform(till)
    (call,) = sell(payee, customer, price, 2000)
    sell(payee, fund_platform(till), price, 1000)
    starts_at, ends_at = month_of(call.occurred_at)
    Invoice.objects.create(
        number="1", account=customer, starts_at=starts_at, ends_at=ends_at, currency="usd", total_cents=2000, due_cents=due, paid_cents=paid, status=status
    )  # fmt: skip

    payable = now_payable(payee)

    assert (payable.unpaid, payable.nanos) == (kept * CENT, (2550 - kept) * CENT)
