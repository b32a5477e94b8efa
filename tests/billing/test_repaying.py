from uuid import UUID

import pytest

from billing import repaying, sending
from billing.books import check_books
from billing.disputes import unfreeze_payments
from billing.errors import PaymentsFrozen, RefundTooLarge
from billing.ids import uuid7
from billing.ledger import balance
from billing.models import Account, Budget, CreditReversal, Customer, Dispute, Notice, PaymentRefund, TopUp
from billing.money import NANOS_PER_CENT as CENT
from billing.providers.fake import refunds
from billing.providers.fake.world import Fault
from tests.billing.facts import CREDIT_NANOS
from tests.till import HANG_S, Till

pytestmark = pytest.mark.django_db


def bought(account: Account) -> int:
    """Return what an account has beside its first credit, in cents."""
    return (balance(account).granted - CREDIT_NANOS) // CENT


def refund(top_up: TopUp, cents: int, *, reference: UUID | None = None) -> PaymentRefund:
    """Refund as the operator does."""
    made, row = repaying.refund_top_up(top_up, cents, reason="asked for", reference=reference or uuid7(), by="operator")
    sending.deliver(row.pk)
    made.refresh_from_db()
    return made


def charge_of(till: Till, top_up: TopUp) -> dict[str, object]:
    """Return a top-up's charge at Stripe."""
    return till.world.store.all("charge", lambda one: one["payment_intent"] == top_up.payment_id)[0]


def test_a_refund_takes_the_credit_and_gives_the_money_back(till: Till, account: Account) -> None:
    top_up = till.top_up(account)

    made = refund(top_up, 1000)

    assert (made.status, bought(account)) == ("succeeded", 1500)
    assert charge_of(till, top_up)["amount_refunded"] == 1000
    till.tell()  # Its webhooks change nothing more.
    assert (PaymentRefund.objects.count(), bought(account)) == (1, 1500)
    assert check_books() == []


def test_refunds_never_exceed_the_payment(till: Till, account: Account) -> None:
    top_up = till.top_up(account)
    refund(top_up, 2000)

    with pytest.raises(RefundTooLarge):
        refund(top_up, 501)

    assert (till.count("refund"), bought(account)) == (1, 500)


def test_spent_credit_is_not_refunded(till: Till, account: Account) -> None:
    top_up = till.top_up(account)
    Budget.objects.filter(account=account).update(spent_nanos=CREDIT_NANOS + 2000 * CENT)

    with pytest.raises(RefundTooLarge) as refusal:
        refund(top_up, 501)

    assert refusal.value.left_cents == 500
    assert not PaymentRefund.objects.exists()
    assert till.count("refund") == 0


def test_a_top_up_that_was_not_paid_is_not_refunded(till: Till, account: Account) -> None:
    with pytest.raises(RefundTooLarge):
        refund(till.start(account), 1)

    assert not CreditReversal.objects.exists()


def test_the_same_reference_refunds_once(till: Till, account: Account) -> None:
    top_up, reference = till.top_up(account), uuid7()

    assert refund(top_up, 300, reference=reference).pk == refund(top_up, 300, reference=reference).pk

    assert (till.count("refund"), bought(account)) == (1, 2200)


@pytest.mark.parametrize("kind", ["timeout_after", "timeout_before", "error_500", "error_500_after", "rate_limit"])
def test_a_fault_while_refunding_refunds_once(till: Till, account: Account, kind: str) -> None:
    top_up = till.top_up(account)
    till.world.faults.waiting.append(Fault(kind=kind, match="POST /v1/refunds", seconds=HANG_S))

    made = refund(top_up, 1000)
    assert (made.status, bought(account)) == ("pending", 1500)  # The credit is gone at once.
    for _ in range(3):
        till.make_due()
        till.sweep()

    made.refresh_from_db()
    assert (made.status, till.count("refund"), bought(account)) == ("succeeded", 1, 1500)


def test_what_stripe_refuses_gives_the_credit_again(till: Till, account: Account) -> None:
    top_up = till.top_up(account)
    refunds.create_refund(till.world, {"payment_intent": top_up.payment_id})  # By hand at Stripe; we have not heard.

    made = refund(top_up, 1000)

    assert (made.status, made.failure) == ("failed", "charge_already_refunded")
    assert bought(account) == 2500
    till.tell()
    assert bought(account) == 0
    assert check_books() == []


def test_a_refund_made_at_stripe_takes_the_credit_even_if_it_was_spent(till: Till, account: Account) -> None:
    top_up = till.top_up(account)
    Budget.objects.filter(account=account).update(spent_nanos=CREDIT_NANOS + 2500 * CENT)

    refunds.create_refund(till.world, {"payment_intent": top_up.payment_id, "amount": 700})
    till.tell()

    now = balance(account)
    assert (now.granted - now.spent, now.available) == (-700 * CENT, 0)
    assert PaymentRefund.objects.get().by == "payments"


def test_a_refund_that_comes_back_gives_the_credit_again(till: Till, account: Account) -> None:
    top_up = till.top_up(account)
    made = refund(top_up, 1000)
    refunds.fail_refund(till.world, till.world.store.get("refund", made.refund_id))

    till.tell()

    made.refresh_from_db()
    assert (made.status, bought(account)) == ("failed", 2500)
    assert check_books() == []


# ---------------------------------------------------------------- Disputes


def test_a_dispute_takes_the_credit_and_freezes_payments(till: Till, account: Account) -> None:
    top_up = till.top_up(account, card="0259")

    assert (Dispute.objects.get().status, bought(account)) == ("open", 0)
    assert Customer.objects.get().frozen_at is not None
    assert Notice.objects.get().kind == "dispute_opened"
    with pytest.raises(PaymentsFrozen):
        till.start(account)
    with pytest.raises(PaymentsFrozen):
        refund(top_up, 100)
    assert check_books() == []


def test_a_dispute_that_is_won_brings_the_credit_back(till: Till, account: Account) -> None:
    till.top_up(account, card="0259")
    refunds.close_dispute(till.world, till.world.store.all("dispute")[0], won=True)

    till.tell()

    assert (Dispute.objects.get().status, bought(account)) == ("won", 2500)
    assert Customer.objects.get().frozen_at is None
    assert check_books() == []


def test_a_dispute_that_is_lost_keeps_payments_frozen_until_the_operator_says_so(till: Till, account: Account) -> None:
    till.top_up(account, card="0259")
    refunds.close_dispute(till.world, till.world.store.all("dispute")[0], won=False)
    till.tell()
    assert Customer.objects.get().frozen_at is not None

    unfreeze_payments(account)

    assert (Dispute.objects.get().status, bought(account)) == ("lost", 0)
    assert till.start(account).status == "open"
    assert check_books() == []


def test_an_inquiry_takes_nothing(till: Till, account: Account) -> None:
    top_up = till.top_up(account)
    dispute = refunds.open_dispute(till.world, charge_of(till, top_up))
    till.world.store.save({**dispute, "status": "warning_needs_response"})

    till.tell()

    assert (Dispute.objects.get().status, bought(account)) == ("inquiry", 2500)
    assert Customer.objects.get().frozen_at is None
