"""Payouts against Stripe's own list of transfers, and the books of them."""

import random
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from billing import payout_runs, payouts, sending, webhooks
from billing.books import check_books
from billing.ledger import open_account
from billing.models import Account, BankPayout, LedgerEntry, Payout, PayoutAccount, PayoutCheck, PayoutReversal, StripeEventWork
from billing.providers import provider
from billing.providers.fake import connect
from tests.billing.payees import CENT, at_stripe, earn, owed, pay
from tests.till import Till

pytestmark = pytest.mark.django_db


def settled_long_ago() -> None:
    """Let all payouts have settled some hours ago."""
    Payout.objects.update(settled_at=timezone.now() - timedelta(hours=5))


def test_the_daily_comparison_finds_nothing_in_good_books_and_is_made_once(till: Till, payee: Account) -> None:
    earn(payee, 3000)
    pay(payee)
    sending.sweep()
    settled_long_ago()

    assert payout_runs.check_today(now=timezone.now()) == []
    assert payout_runs.check_today(now=timezone.now()) is None
    assert PayoutCheck.objects.get().transfers == 1


def test_the_daily_comparison_finds_a_missing_a_doubled_and_a_strange_transfer(till: Till, payee: Account) -> None:
    earn(payee, 3000)
    payout = pay(payee)
    sending.sweep()
    assert payout is not None
    params = {"amount": 3000, "currency": "usd", "destination": at_stripe(till)["id"]}
    connect.create_transfer(till.world, {**params, "metadata": {"farebox_payout": str(payout.pk)}})
    connect.create_transfer(till.world, {**params, "amount": 5, "metadata": {"farebox_payout": str(open_account(name="x").pk)}})
    lost = Payout.objects.create(
        account=open_account(name="lost"), amount_cents=7, currency="usd", connected_id="acct_1", status="paid", transfer_id="tr_no", by="t"
    )
    settled_long_ago()

    differences = payout_runs.check_today(now=timezone.now())

    assert differences is not None
    text = "\n".join(differences)
    assert f"payout {payout.pk} was sent twice" in text.lower()
    assert "of 5 usd is of no payout" in text
    assert f"payout {lost.pk} of 7 usd has no transfer" in text
    assert PayoutCheck.objects.get().differences == len(differences)


def test_the_daily_comparison_puts_right_what_was_never_heard_of(till: Till, payee: Account) -> None:
    earn(payee, 3000)
    payout = pay(payee)
    sending.sweep()
    assert payout is not None
    payout.refresh_from_db()
    connect.create_reversal(till.world, {"amount": 100}, payout.transfer_id)
    settled_long_ago()

    assert payout_runs.check_today(now=timezone.now()) == []
    assert owed(payee) == 100 * CENT


def test_the_books_find_a_posting_without_its_payout(till: Till, payee: Account) -> None:
    earn(payee, 3000)
    pay(payee)
    Payout.objects.update(amount_cents=2999)

    assert {difference.what for difference in check_books()} == {"payouts", "payout fund"}


def test_a_transfer_of_another_amount_is_not_taken_for_ours(till: Till, payee: Account) -> None:
    earn(payee, 3000)
    payout = pay(payee)
    sending.sweep()
    assert payout is not None
    payout.refresh_from_db()
    transfer = till.world.store.get("transfer", payout.transfer_id)
    transfer["amount"] = 1
    till.world.store.save(transfer)

    with pytest.raises(ValueError, match="is a transfer of 1 usd"):
        payouts.apply_transfer(provider().get_transfer(payout.transfer_id))


# ---------------------------------------------------------------- Any order, any number of times: one state


def state_of(account: Account) -> dict[str, Any]:
    """Return everything that webhooks of Connect could have changed."""
    payee = PayoutAccount.objects.get(account=account)
    return {
        "payee": (payee.connected_id, payee.transfers_enabled, payee.requirements_due),
        "payouts": sorted(Payout.objects.values_list("pk", "status", "transfer_id")),
        "reversals": sorted(PayoutReversal.objects.values_list("reversal_id", "status", "amount_cents")),
        "banks": sorted(BankPayout.objects.values_list("pk", "status", "amount_cents")),
        "ledger": sorted(LedgerEntry.objects.values_list("ledger_account__name", "amount_nanos")),
        "waiting": StripeEventWork.objects.filter(outcome="waiting").count(),
    }


def test_any_order_of_the_same_webhooks_ends_in_one_state(till: Till, payee: Account) -> None:
    known = {event["id"] for event in till.events()}
    for _ in range(2):
        earn(payee, 3000)
        pay(payee)
        sending.sweep()
    for transfer in till.world.store.all("transfer"):
        connect.create_reversal(till.world, {"amount": 300}, transfer["id"])
        connect.create_reversal(till.world, {"amount": 200}, transfer["id"])
    connect.pay_out(till.world, at_stripe(till), succeeds=False)
    connect.pay_out(till.world, at_stripe(till), succeeds=True)
    connect.restrict(till.world, at_stripe(till))
    connect.complete_partly(till.world, at_stripe(till))
    events = [event for event in till.events() if event["id"] not in known]
    assert len(events) >= 10
    finals: list[dict[str, Any]] = []

    for seed in range(12):
        choose = random.Random(seed)
        order = [*events, *choose.sample(events, k=len(events) // 2)]
        choose.shuffle(order)
        with transaction.atomic():
            for event in order:
                assert till.post(event).status_code == 200
                webhooks.apply_waiting()
            finals.append(state_of(payee))
            assert check_books() == []
            transaction.set_rollback(True)
        assert finals[-1] == finals[0], f"seed {seed}"

    assert finals[0]["waiting"] == 0
    assert len(finals[0]["reversals"]) == 4
    assert sorted(status for _, status, _ in finals[0]["banks"]) == ["failed", "paid"]
