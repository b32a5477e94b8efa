"""Payouts against Stripe's own list of transfers, and the books of them."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing import payout_runs, payouts, sending
from billing.books import check_books
from billing.ledger import open_account
from billing.models import Account, Payout, PayoutCheck
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
