import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing import sending, topups, webhooks
from billing.books import check_books
from billing.errors import PaymentsFrozen, PaymentsOff, TopUpOutOfRange
from billing.ledger import balance, ledger_balance
from billing.models import Account, AutoRecharge, Card, CreditGrant, Customer, OutboxRow, TopUp
from billing.money import NANOS_PER_CENT as CENT
from billing.providers.fake import checkout
from billing.providers.fake.errors import ApiError
from billing.providers.fake.world import Fault
from tests.billing.facts import CREDIT_NANOS
from tests.till import HANG_S, Till

pytestmark = pytest.mark.django_db


def bought(account: Account) -> int:
    """Return what an account has beside its first credit, in cents."""
    return (balance(account).granted - CREDIT_NANOS) // CENT


def test_a_paid_top_up_is_credited_once_and_the_books_balance(till: Till, account: Account) -> None:
    top_up = till.start(account, 2500)
    assert (top_up.status, top_up.checkout_url) == ("open", f"{till.world.base_url}/pay/{top_up.checkout_id}")

    till.pay(top_up)
    assert bought(account) == 0  # Nobody has heard of it.
    till.tell()

    top_up.refresh_from_db()
    assert (top_up.status, bought(account)) == ("paid", 2500)
    assert ledger_balance("payments") == -2500 * CENT
    assert check_books() == []


def test_the_card_is_saved_and_told_apart_but_never_known(till: Till, account: Account) -> None:
    till.top_up(account)

    card = Card.objects.get(customer__account=account)
    assert (str(card), card.removed_at) == ("visa …4242", None)


def test_the_customer_and_the_session_carry_our_ids(till: Till, account: Account) -> None:
    top_up = till.start(account)

    assert till.session(top_up)["metadata"] == {"farebox_top_up": str(top_up.pk)}
    customer = till.world.store.get("customer", Customer.objects.get(account=account).customer_id)
    assert customer["metadata"] == {"farebox_account": str(account.pk)}


def test_a_declined_card_leaves_the_page_open_for_another(till: Till, account: Account) -> None:
    top_up = till.start(account)
    with pytest.raises(ApiError):
        till.pay(top_up, "0002")
    till.tell()
    top_up.refresh_from_db()
    assert (top_up.status, bought(account)) == ("open", 0)

    till.pay(top_up)
    till.tell()

    assert bought(account) == 2500


def test_a_bank_debit_is_credited_when_it_arrives_and_not_when_it_is_promised(till: Till, account: Account) -> None:
    top_up = till.start(account)
    checkout.pay_by_debit(till.world, till.session(top_up), succeeds=True)
    till.tell()
    top_up.refresh_from_db()
    assert (top_up.status, bought(account)) == ("processing", 0)

    checkout.settle_due(till.world, now=time.time() + 7200)
    till.tell()

    top_up.refresh_from_db()
    assert (top_up.status, bought(account)) == ("paid", 2500)


def test_a_bank_debit_that_fails_brings_nothing(till: Till, account: Account) -> None:
    top_up = till.start(account)
    checkout.pay_by_debit(till.world, till.session(top_up), succeeds=False)
    checkout.settle_due(till.world, now=time.time() + 7200)
    till.tell()

    top_up.refresh_from_db()
    assert (top_up.status, bought(account)) == ("failed", 0)
    assert check_books() == []


def test_an_expired_session_ends_the_top_up(till: Till, account: Account) -> None:
    top_up = till.start(account)
    checkout.expire_session(till.world, {}, top_up.checkout_id)
    till.tell()

    top_up.refresh_from_db()
    assert (top_up.status, top_up.checkout_url, bought(account)) == ("expired", "", 0)


def test_a_webhook_twice_credits_once(till: Till, account: Account) -> None:
    till.top_up(account)

    for event in till.events():
        assert till.post(event).status_code == 200
    webhooks.apply_waiting()

    assert bought(account) == 2500
    assert CreditGrant.objects.filter(kind="top_up").count() == 1


def test_another_amount_than_was_asked_is_not_credited(till: Till, account: Account) -> None:
    top_up = till.start(account)
    till.pay(top_up)
    intent = till.world.store.get("payment_intent", till.session(top_up)["payment_intent"])
    till.world.store.save({**intent, "amount_received": 99})

    till.tell()

    top_up.refresh_from_db()
    assert (top_up.status, bought(account)) == ("open", 0)


@pytest.mark.parametrize("cents", [0, 499, 100_001])
def test_an_amount_out_of_range_asks_nobody(till: Till, account: Account, cents: int) -> None:
    with pytest.raises(TopUpOutOfRange):
        till.start(account, cents)

    assert not TopUp.objects.exists()
    assert not till.world.requests


def test_a_site_without_payments_starts_nothing(account: Account) -> None:
    with pytest.raises(PaymentsOff):
        topups.start_top_up(account, 2500, by="ada", success_url="http://x/", cancel_url="http://x/")

    assert not TopUp.objects.exists()
    assert not OutboxRow.objects.exists()


def test_a_frozen_account_starts_nothing(till: Till, account: Account) -> None:
    Customer.objects.create(account=account, frozen_at=timezone.now())

    with pytest.raises(PaymentsFrozen):
        till.start(account)

    assert not TopUp.objects.exists()
    assert not till.world.requests


def test_paying_by_hand_ends_the_pause_of_the_auto_recharge(till: Till, account: Account) -> None:
    AutoRecharge.objects.create(
        account=account,
        threshold_nanos=1,
        amount_cents=500,
        monthly_ceiling_cents=500,
        paused_at=timezone.now(),
        pause_reason="card_declined",
    )

    till.top_up(account)

    assert AutoRecharge.objects.get().paused_at is None


# ---------------------------------------------------------------- Faults


@pytest.mark.parametrize("kind", ["timeout_after", "timeout_before", "error_500", "error_500_after", "rate_limit"])
@pytest.mark.parametrize("route", ["POST /v1/customers", "POST /v1/checkout/sessions"])
def test_a_fault_while_starting_makes_one_page_and_not_two(till: Till, account: Account, kind: str, route: str) -> None:
    till.world.faults.waiting.append(Fault(kind=kind, match=route, seconds=HANG_S))

    top_up = till.start(account)
    for _ in range(4):
        till.make_due()
        till.sweep()

    top_up.refresh_from_db()
    assert top_up.status == "open"
    assert till.count("checkout.session") == 1
    assert Customer.objects.get().customer_id
    till.pay(top_up)
    till.tell()
    assert bought(account) == 2500


def test_a_row_is_sent_again_under_the_same_key(till: Till, account: Account) -> None:
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="checkout/sessions", seconds=HANG_S))
    top_up = till.start(account)
    row = OutboxRow.objects.get(kind="checkout.create")
    key = row.idempotency_key
    assert (row.state, top_up.status) == ("waiting", "created")

    till.make_due()
    till.sweep()

    row.refresh_from_db()
    assert (row.state, row.idempotency_key) == ("done", key)


def test_a_500_is_looked_up_before_it_is_asked_under_a_new_key(till: Till, account: Account) -> None:
    till.world.faults.waiting.append(Fault(kind="error_500_after", match="checkout/sessions"))
    top_up = till.start(account)
    till.make_due()
    till.sweep()

    top_up.refresh_from_db()
    assert top_up.status == "open"
    assert till.requests("GET /v1/checkout/sessions") == 1
    assert till.requests("POST /v1/checkout/sessions") == 1  # It was found, so it was not asked again.


def test_an_old_row_is_looked_up_since_its_key_may_be_forgotten(till: Till, account: Account) -> None:
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="checkout/sessions", seconds=HANG_S))
    till.start(account)
    till.world.store.forget_answers()
    OutboxRow.objects.filter(kind="checkout.create").update(first_sent_at=timezone.now() - timedelta(hours=21))

    till.make_due()
    till.sweep()

    assert till.count("checkout.session") == 1
    assert TopUp.objects.get().status == "open"


def test_a_young_row_would_be_made_twice_if_its_key_were_forgotten(till: Till, account: Account) -> None:
    # The negative control of the test above: it is the lookup that saves, and nothing else.
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="checkout/sessions", seconds=HANG_S))
    till.start(account)
    till.world.store.forget_answers()

    till.make_due()
    till.sweep()

    assert till.count("checkout.session") == 2


def test_two_senders_of_one_row_send_it_once(till: Till, account: Account) -> None:
    _, row = topups.start_top_up(account, 2500, by="ada", success_url="http://x/", cancel_url="http://x/")

    assert [sending.deliver(row.pk), sending.deliver(row.pk)] == [True, False]

    assert till.requests("POST /v1/checkout/sessions") == 1


def test_a_day_of_silence_loses_no_payment(till: Till, account: Account) -> None:
    top_up = till.start(account)
    till.pay(top_up)

    webhooks.catch_up()
    webhooks.apply_waiting()

    top_up.refresh_from_db()
    assert (top_up.status, bought(account)) == ("paid", 2500)
    assert Card.objects.count() == 1


def test_catching_up_that_breaks_off_begins_again_where_it_did(till: Till, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    top_up = till.start(account)
    till.pay(top_up)
    till.world.faults.waiting.append(Fault(kind="timeout_before", match="GET /v1/events", seconds=HANG_S))
    with pytest.raises(Exception, match="APIConnectionError"):
        webhooks.catch_up()
    assert bought(account) == 0

    webhooks.catch_up()
    webhooks.apply_waiting()

    assert bought(account) == 2500


def test_a_top_up_that_waits_is_asked_about(till: Till, account: Account) -> None:
    top_up = till.start(account)
    till.pay(top_up)
    TopUp.objects.update(created_at=timezone.now() - timedelta(minutes=5))
    for event in till.world.store.all("event"):  # Even the list of events lost it.
        till.world.store.save({**event, "created": 0})

    assert webhooks.catch_up() == 0

    assert bought(account) == 2500


def test_an_event_is_read_again_when_stripe_did_not_answer(till: Till, account: Account) -> None:
    top_up = till.start(account)
    till.pay(top_up)
    till.world.faults.waiting.append(Fault(kind="error_500", match="GET /v1/", times=9))
    till.tell()
    assert bought(account) == 0

    till.world.faults.waiting.clear()
    till.make_due()
    till.sweep()

    assert bought(account) == 2500


def test_our_keys_are_never_logged(till: Till, account: Account, caplog: Any) -> None:
    caplog.set_level("DEBUG")
    till.top_up(account)

    assert "sk_test" not in caplog.text
    assert "whsec" not in caplog.text
