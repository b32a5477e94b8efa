"""Sending providers what they are owed: how much, when not, exactly once, and what comes back."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing import connecting, payout_runs, payouts, sending
from billing.books import check_books
from billing.ledger import ledger_balance, open_account
from billing.models import Account, OutboxRow, Payout, PayoutReversal, PayoutRun
from billing.payable import find_payable
from billing.providers.fake import connect
from billing.providers.fake.world import Fault
from tests.billing.payees import CENT, at_stripe, earn, fund_platform, later, onboard, owed, pay
from tests.till import HANG_S, Till

pytestmark = pytest.mark.django_db


def sent_cents(till: Till) -> list[int]:
    """Return what Stripe has sent, the oldest first."""
    return [transfer["amount"] for transfer in till.world.store.all("transfer")][::-1]


def test_whole_cents_are_sent_and_the_rest_stays(till: Till, payee: Account) -> None:
    earn(payee, 1234.5678)

    payout = pay(payee)
    sending.sweep()

    assert payout is not None
    payout.refresh_from_db()
    assert (payout.status, payout.amount_cents, sent_cents(till)) == ("paid", 1234, [1234])
    assert owed(payee) == round(0.5678 * CENT)
    assert till.world.store.all("transfer")[0]["id"] == payout.transfer_id
    assert check_books() == []


def test_what_is_on_hold_or_in_reserve_is_kept_back(till: Till, payee: Account) -> None:
    earn(payee, 10_000)
    now = timezone.now()

    def cents(days: int) -> int:
        payable = find_payable(payee, currency="usd", now=now + timedelta(days=days))
        assert payable is not None
        return payable.cents

    # 14 days on hold, then 10 % in reserve until 90 days have passed.
    assert [cents(13), cents(15), cents(89), cents(91)] == [0, 9000, 9000, 10_000]
    assert pay(payee, days=13) is None
    assert pay(payee, days=15) is not None
    assert owed(payee) == 1000 * CENT


def test_less_than_the_minimum_waits(till: Till, payee: Account) -> None:
    earn(payee, 999)
    assert pay(payee) is None

    earn(payee, 1)
    assert pay(payee) is not None


@pytest.mark.parametrize("why", ["not_onboarded", "held", "suspended", "account_suspended", "restricted"])
def test_who_may_not_be_paid_is_sent_nothing_and_loses_nothing(till: Till, payee: Account, why: str) -> None:
    earn(payee, 5000)
    if why == "not_onboarded":
        payee = open_account(name="other")
        earn(payee, 5000)
    elif why == "held":
        connecting.hold_payouts(payee)
    elif why == "suspended":
        connecting.suspend_payouts(payee, since=timezone.now())
    elif why == "account_suspended":
        payee.suspended_at = timezone.now()
        payee.save()
    else:
        connect.restrict(till.world, at_stripe(till))  # Nobody tells us; the run asks.

    assert pay(payee) is None
    assert sent_cents(till) == []
    assert owed(payee) == 5000 * CENT

    if why in {"held", "suspended"}:
        connecting.release_payouts(payee)
        connecting.suspend_payouts(payee, since=None)
        assert pay(payee) is not None


def test_a_week_has_one_run(till: Till, payee: Account) -> None:
    earn(payee, 5000)
    now = later()

    assert payout_runs.run_due(now=now) == 1
    earn(payee, 5000)
    assert payout_runs.run_due(now=now) == 0
    assert payout_runs.run_due(now=now + timedelta(days=7)) == 0  # The first is still on its way.
    sending.sweep()
    assert payout_runs.run_due(now=now + timedelta(days=14)) == 1

    assert PayoutRun.objects.count() == 3
    assert sent_cents(till) == [5000]


def test_a_run_that_died_is_gone_on_with(till: Till, payee: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    second = open_account(name="second")
    onboard(till, second)
    for one in (payee, second):
        earn(one, 3000)
    make, now = payouts.make_payout, later()

    def die_at_the_second(account: Account, **more: object) -> Payout | None:
        if account.pk == second.pk:
            raise SystemExit
        return make(account, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(payout_runs, "make_payout", die_at_the_second)
    with pytest.raises(SystemExit):
        payout_runs.run_due(now=now)
    monkeypatch.undo()

    assert payout_runs.run_due(now=now) == 1
    sending.sweep()
    assert sent_cents(till) == [3000, 3000]


def test_months_and_off(settings: Any, till: Till, payee: Account) -> None:
    settings.PAYOUT_INTERVAL = "monthly"
    assert payout_runs.period_of(later(0)) == f"{later(0):%Y-%m}"
    settings.PAYOUT_INTERVAL = "off"
    earn(payee, 5000)
    assert payout_runs.run_due(now=later()) == 0
    assert not PayoutRun.objects.exists()


def test_a_lost_answer_sends_once(till: Till, payee: Account) -> None:
    earn(payee, 5000)
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="POST /v1/transfers", seconds=HANG_S))
    pay(payee)
    sending.sweep()
    assert Payout.objects.get().status == "waiting"

    till.make_due()
    sending.sweep()

    assert (Payout.objects.get().status, sent_cents(till)) == ("paid", [5000])


def test_a_500_is_looked_up_before_a_new_key_is_used(till: Till, payee: Account) -> None:
    earn(payee, 5000)
    till.world.faults.waiting += [
        Fault(kind="error_500", match="POST /v1/transfers"),
        Fault(kind="error_500_after", match="POST /v1/transfers"),
    ]
    pay(payee)
    for _ in range(4):
        sending.sweep()
        till.make_due()

    assert (Payout.objects.get().status, sent_cents(till)) == ("paid", [5000])
    assert OutboxRow.objects.get(kind="transfer.create").generation == 1


def test_a_key_that_was_forgotten_sends_nothing_twice(till: Till, payee: Account) -> None:
    earn(payee, 5000)
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="POST /v1/transfers", seconds=HANG_S))
    pay(payee)
    sending.sweep()
    till.make_due()
    till.world.store.forget_answers()
    OutboxRow.objects.filter(kind="transfer.create").update(first_sent_at=timezone.now() - timedelta(hours=21))

    sending.sweep()

    assert sent_cents(till) == [5000]


def test_a_crash_between_the_answer_and_our_commit_sends_once(till: Till, payee: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    earn(payee, 5000)
    pay(payee)

    def die(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(payouts, "apply_transfer", die)
    with pytest.raises(SystemExit):
        sending.sweep()
    monkeypatch.undo()
    till.make_due()
    sending.sweep()

    assert (Payout.objects.get().status, sent_cents(till)) == ("paid", [5000])


def test_what_stripe_refuses_is_in_the_balance_again_and_sent_by_the_next_run(till: Till) -> None:
    payee = open_account(name="models & co")
    onboard(till, payee)
    earn(payee, 5000)
    pay(payee)
    sending.sweep()  # The platform has nothing.

    refused = Payout.objects.get()
    assert (refused.status, refused.failure.split(":")[0], owed(payee)) == ("failed", "balance_insufficient", 5000 * CENT)
    assert check_books() == []

    fund_platform(till)
    assert pay(payee) is not None
    sending.sweep()
    assert sent_cents(till) == [5000]
    assert check_books() == []


def test_two_payouts_of_one_balance_are_refused_by_the_database(till: Till, payee: Account) -> None:
    earn(payee, 5000)
    pay(payee)

    with pytest.raises(IntegrityError), transaction.atomic():
        Payout.objects.create(account=payee, amount_cents=1, currency="usd", connected_id="acct_1", by="test")


def test_currencies_are_sent_apart(till: Till, payee: Account) -> None:
    earn(payee, 5000)
    earn(payee, 3000, currency="eur")
    earn(payee, -100, currency="eur")

    made = payout_runs.pay_providers(now=later(), by="test")

    assert {one.currency: one.amount_cents for one in made} == {"usd": 5000, "eur": 2900}
    assert ledger_balance("payouts:eur") == 2900 * CENT
    assert check_books() == []


# ---------------------------------------------------------------- What comes back


def test_a_debt_is_asked_back_from_the_newest_payouts(till: Till, payee: Account) -> None:
    for _ in range(2):
        earn(payee, 2000)
        pay(payee)
        sending.sweep()
    earn(payee, -2500.5)
    assert owed(payee) < 0

    assert pay(payee) is None
    sending.sweep()

    reversed_cents = [transfer["amount_reversed"] for transfer in till.world.store.all("transfer")]
    assert reversed_cents == [2000, 500]
    assert owed(payee) == round(-0.5 * CENT)
    assert check_books() == []
    till.tell()  # The webhooks of the same reversals change nothing.
    assert owed(payee) == round(-0.5 * CENT)
    assert PayoutReversal.objects.count() == 2


def test_a_debt_that_the_bank_has_is_carried_and_taken_from_the_next_payout(till: Till, payee: Account) -> None:
    earn(payee, 3000)
    pay(payee)
    sending.sweep()
    connect.pay_out(till.world, at_stripe(till), succeeds=True)
    earn(payee, -1000)
    pay(payee)
    sending.sweep()
    assert PayoutReversal.objects.get().status == "failed"
    assert owed(payee) == -1000 * CENT

    earn(payee, 4000)
    payout = pay(payee)

    assert payout is not None
    assert payout.amount_cents == 3000
    assert check_books() == []


def test_a_reversal_whose_answer_is_lost_is_made_once(till: Till, payee: Account) -> None:
    earn(payee, 3000)
    pay(payee)
    sending.sweep()
    earn(payee, -1000)
    till.world.faults.waiting += [
        Fault(kind="timeout_after", match="reversals", seconds=HANG_S),
        Fault(kind="error_500_after", match="reversals"),
    ]
    pay(payee)
    pay(payee)  # Asked back already.
    for _ in range(4):
        sending.sweep()
        till.make_due()

    assert till.count("transfer_reversal") == 1
    assert owed(payee) == 0


def test_debts_are_only_carried_where_the_operator_wants_it_so(till: Till, payee: Account, settings: Any) -> None:
    settings.PAYOUT_REVERSE_DEBTS = False
    earn(payee, 3000)
    pay(payee)
    sending.sweep()
    earn(payee, -1000)

    pay(payee)
    sending.sweep()

    assert (till.count("transfer_reversal"), owed(payee)) == (0, -1000 * CENT)


def test_a_reversal_made_at_stripe_is_heard_of_and_is_in_the_balance_again(till: Till, payee: Account) -> None:
    earn(payee, 3000)
    payout = pay(payee)
    sending.sweep()
    assert payout is not None
    payout.refresh_from_db()
    for _ in range(12):  # More than a transfer shows by itself.
        connect.create_reversal(till.world, {"amount": 100}, payout.transfer_id)

    till.tell()

    assert PayoutReversal.objects.filter(status="done", by="payments").count() == 12
    assert owed(payee) == 1200 * CENT
    assert check_books() == []
