"""Providers' accounts at Stripe: made once, known by what is fetched, asked about when nothing is heard."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing import connecting, sending
from billing.errors import OnboardingNotStarted, PaymentsOff, WebhookForged
from billing.ledger import open_account
from billing.models import Account, BankPayout, OutboxRow, PayoutAccount, StripeEvent, StripeEventWork
from billing.providers import provider
from billing.providers.base_connect import TransferOrder
from billing.providers.fake import connect
from billing.providers.fake.store import Obj
from billing.providers.fake.world import Fault
from tests.till import HANG_S, Till

pytestmark = pytest.mark.django_db


def begin(account: Account) -> PayoutAccount:
    """Have an account made, as the button does."""
    _, row = connecting.start_onboarding(account, country="DE")
    assert row is not None
    sending.deliver(row.pk)
    return PayoutAccount.objects.get(account=account)


def connected(till: Till) -> Obj:
    """Return the one connected account at Stripe."""
    (found,) = till.world.store.all("account")
    return found


def test_an_account_is_made_once_with_its_country(till: Till, account: Account) -> None:
    payee = begin(account)
    _, again = connecting.start_onboarding(account, country="FR")

    assert again is None
    assert (connected(till)["id"], connected(till)["country"], connected(till)["type"]) == (payee.connected_id, "DE", "express")
    assert not payee.is_onboarded
    assert payee.requirements_due


def test_a_lost_answer_makes_no_second_account(till: Till, account: Account) -> None:
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="POST /v1/accounts", seconds=HANG_S))
    _, row = connecting.start_onboarding(account, country="US")
    assert row is not None
    assert not sending.deliver(row.pk)
    till.make_due()
    sending.sweep()

    assert PayoutAccount.objects.get().connected_id == connected(till)["id"]


def test_a_500_after_the_effect_is_looked_up_before_a_new_key_is_used(till: Till, account: Account) -> None:
    till.world.faults.waiting.append(Fault(kind="error_500_after", match="POST /v1/accounts"))
    _, row = connecting.start_onboarding(account, country="US")
    assert row is not None
    sending.deliver(row.pk)
    till.make_due()
    sending.sweep()

    assert PayoutAccount.objects.get().connected_id == connected(till)["id"]
    assert OutboxRow.objects.get().generation == 0


def test_a_refusal_is_told_and_can_be_tried_again(till: Till, account: Account) -> None:
    _, row = connecting.start_onboarding(account, country="ZZ")
    assert row is not None
    sending.deliver(row.pk)
    assert "country" in PayoutAccount.objects.get().failure

    assert begin(account).connected_id == connected(till)["id"]
    assert (PayoutAccount.objects.get().failure, connected(till)["country"]) == ("", "DE")


def test_onboarding_is_heard_of_by_the_webhook_of_the_connected_account(till: Till, account: Account) -> None:
    payee = begin(account)
    address = connecting.onboarding_address(account, return_url="http://x/back", refresh_url="http://x/again")
    assert address.startswith(till.world.base_url)

    connect.complete(till.world, connected(till))
    till.tell()
    payee.refresh_from_db()
    assert (payee.is_onboarded, payee.payouts_enabled, payee.requirements_due) == (True, True, [])
    assert StripeEvent.objects.get(type="account.updated").connected_id == payee.connected_id

    connect.restrict(till.world, connected(till))
    till.tell()
    payee.refresh_from_db()
    assert (payee.is_onboarded, payee.disabled_reason) == (False, "requirements.past_due")


def test_a_webhook_before_the_answer_is_applied(till: Till, account: Account) -> None:
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="POST /v1/accounts", seconds=HANG_S))
    begin(account)
    connect.complete(till.world, connected(till))

    till.tell()

    assert PayoutAccount.objects.get().is_onboarded


def test_accounts_of_others_and_events_of_unknown_types_are_ignored(till: Till, account: Account) -> None:
    stranger = connect.create_account(till.world, {"type": "express", "capabilities": {"transfers": {"requested": True}}})
    connect.complete(till.world, stranger)
    # A connected account's own payments are not ours, whatever their types.
    till.world.emit("payment_intent.succeeded", {"id": "pi_theirs", "object": "payment_intent"}, account=stranger["id"])

    till.tell()

    assert set(StripeEventWork.objects.values_list("outcome", flat=True)) == {"ignored"}
    assert not PayoutAccount.objects.exists()


def test_a_day_of_silence_is_caught_up_on(till: Till, account: Account) -> None:
    payee = begin(account)
    connect.complete(till.world, connected(till))
    PayoutAccount.objects.update(refreshed_at=timezone.now() - timedelta(hours=2))

    connecting.refresh_quiet_payees(now=timezone.now())

    payee.refresh_from_db()
    assert payee.is_onboarded


def test_an_account_that_was_closed_is_paid_no_more_and_does_not_hide_the_others(till: Till, account: Account) -> None:
    other = open_account(name="other")
    for one in (account, other):
        begin(one)
    closed, kept = (PayoutAccount.objects.get(account=one) for one in (account, other))
    connect.complete(till.world, till.world.store.get("account", kept.connected_id))
    till.world.store._database.execute("DELETE FROM object WHERE id = ?", (closed.connected_id,))
    PayoutAccount.objects.update(refreshed_at=timezone.now() - timedelta(hours=2), transfers_enabled=True)

    assert connecting.refresh_quiet_payees(now=timezone.now()) == 2

    closed.refresh_from_db()
    kept.refresh_from_db()
    assert (closed.is_onboarded, closed.disabled_reason) == (False, "resource_missing")
    assert kept.is_onboarded


def test_payments_to_the_bank_are_shown_and_only_move_forward(till: Till, account: Account) -> None:
    payee = begin(account)
    connect.complete(till.world, connected(till))
    till.top_up(open_account(name="customer"), 2500)
    order = TransferOrder(reference=account.pk, destination=payee.connected_id, amount_cents=700, currency="usd", description="d")
    provider().create_transfer(order, key="k")
    failed = connect.pay_out(till.world, connected(till), succeeds=False)
    paid = connect.pay_out(till.world, connected(till), succeeds=True)
    assert failed is not None
    assert paid is not None

    till.tell()

    states = dict(BankPayout.objects.values_list("payout_id", "status"))
    assert states == {failed["id"]: "failed", paid["id"]: "paid"}
    assert BankPayout.objects.get(status="failed").failure == "account_closed"
    failed["status"] = "paid"  # An old state, as a late webhook would tell.
    till.world.store.save(failed)
    assert connecting.apply_bank_payout(payee.connected_id, provider().get_bank_payout(failed["id"], connected=payee.connected_id))
    assert BankPayout.objects.get(pk=failed["id"]).status == "failed"


def test_without_an_account_there_is_no_page(till: Till, account: Account) -> None:
    with pytest.raises(OnboardingNotStarted):
        connecting.onboarding_address(account, return_url="http://x/", refresh_url="http://x/")


def test_a_site_without_payments_pays_nobody(account: Account) -> None:
    with pytest.raises(PaymentsOff):
        connecting.start_onboarding(account, country="US")

    assert not PayoutAccount.objects.exists()


def test_either_endpoints_secret_signs(till: Till, account: Account) -> None:
    from billing.providers.fake.delivery import sign
    from billing.providers.stripe import StripeProvider

    both = StripeProvider(api_key="sk_test_x", webhook_secret="whsec_ours", connect_webhook_secret="whsec_theirs", timeout_s=1)
    body = b'{"id":"evt_1","object":"event","type":"account.updated","created":1,"livemode":false,"account":"acct_1","data":{"object":{"id":"acct_1"}}}'

    for secret in ("whsec_ours", "whsec_theirs"):
        assert both.read_webhook(body, sign(body, secret)).account == "acct_1"
    with pytest.raises(WebhookForged):
        both.read_webhook(body, sign(body, "whsec_guessed"))
