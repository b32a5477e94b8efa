from typing import Any

import pytest

from billing import recharging
from billing.books import check_books
from billing.customers import choose_card, remove_card, saved_cards
from billing.errors import CardMissing, PaymentsOff, RechargeInvalid
from billing.ledger import balance
from billing.models import Account, AutoRecharge, Budget, Notice, OutboxRow, TopUp
from billing.money import NANOS_PER_CENT as CENT
from billing.providers.fake import payments
from billing.providers.fake.world import Fault
from tests.billing.facts import CREDIT_NANOS
from tests.till import HANG_S, Till

pytestmark = pytest.mark.django_db


def turn_on(till: Till, account: Account, *, card: str = "4242", ceiling: int = 10_000) -> None:
    """Save a card by a first top-up, and have $20 charged below $5."""
    till.top_up(account, 2500, card)
    recharging.set_auto_recharge(account, threshold_nanos=500 * CENT, amount_cents=2000, monthly_ceiling_cents=ceiling)


def spend_down(account: Account, *, left_cents: int) -> None:
    """Have calls spend nearly all."""
    granted = balance(account).granted
    Budget.objects.filter(account=account).update(spent_nanos=granted - left_cents * CENT)


def left(account: Account) -> int:
    """Return the balance in cents."""
    now = balance(account)
    return (now.granted - now.spent) // CENT


def test_a_low_balance_is_recharged_once(till: Till, account: Account) -> None:
    turn_on(till, account)
    till.sweep()
    assert TopUp.objects.filter(source="auto").count() == 0  # There is plenty.
    spend_down(account, left_cents=499)

    for _ in range(3):
        till.sweep()
    till.tell()

    assert left(account) == 2499
    assert TopUp.objects.get(source="auto").status == "paid"
    assert till.count("charge") == 2
    assert [fault for fault in check_books() if fault.what != "budget spent"] == []  # We spent without calls.


def test_a_balance_at_the_threshold_is_not_low(till: Till, account: Account) -> None:
    turn_on(till, account)
    spend_down(account, left_cents=500)

    till.sweep()

    assert till.count("charge") == 1


def test_a_month_is_charged_up_to_its_ceiling_and_the_people_are_told(till: Till, account: Account) -> None:
    turn_on(till, account, ceiling=5000)
    for _ in range(4):
        spend_down(account, left_cents=100)
        till.sweep()
        till.tell()

    assert TopUp.objects.filter(source="auto", status="paid").count() == 2  # A third would make 60 dollars.
    assert Notice.objects.get().kind == "ceiling_reached"


@pytest.mark.parametrize(("card", "reason"), [("3155", "authentication_required"), ("0341", "card_declined")])
def test_a_refused_card_pauses_and_tells(till: Till, account: Account, card: str, reason: str) -> None:
    turn_on(till, account, card=card)
    spend_down(account, left_cents=100)

    for _ in range(3):
        till.sweep()
        till.tell()

    recharge = AutoRecharge.objects.get()
    assert recharge.paused_at is not None
    assert (recharge.pause_reason, left(account), till.count("charge")) == (reason, 100, 1)
    assert Notice.objects.get().kind == reason
    # Nobody can complete it later, after paying in another way.
    intent = till.world.store.get("payment_intent", TopUp.objects.get(source="auto").payment_id)
    assert intent["status"] == "canceled"


@pytest.mark.parametrize("kind", ["timeout_after", "timeout_before", "error_500", "error_500_after", "rate_limit", "slow"])
def test_a_fault_while_charging_charges_once(till: Till, account: Account, kind: str) -> None:
    turn_on(till, account)
    spend_down(account, left_cents=100)
    till.world.faults.waiting.append(Fault(kind=kind, match="POST /v1/payment_intents", seconds=HANG_S))

    for _ in range(4):
        till.sweep()
        till.make_due()
        till.tell()

    assert (till.count("charge"), left(account)) == (2, 2100)


def test_a_webhook_before_the_answer_credits_once(till: Till, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    turn_on(till, account)
    spend_down(account, left_cents=100)
    provider = recharging_provider()
    charge = provider.charge_card

    def charge_and_tell(*args: Any, **named: Any) -> Any:
        state = charge(*args, **named)
        till.tell()
        assert left(account) == 2100
        return state

    monkeypatch.setattr(provider, "charge_card", charge_and_tell)
    till.sweep()

    assert (left(account), OutboxRow.objects.filter(state="waiting").count()) == (2100, 0)


def recharging_provider() -> Any:
    from billing.providers import provider

    return provider()


def test_an_account_that_is_turned_off_is_not_charged(till: Till, account: Account) -> None:
    turn_on(till, account)
    recharging.stop_auto_recharge(account)
    spend_down(account, left_cents=0)

    till.sweep()

    assert till.count("charge") == 1


def test_a_removed_card_is_never_charged_again(till: Till, account: Account) -> None:
    turn_on(till, account)
    remove_card(account, saved_cards(account)[0].card_id)
    spend_down(account, left_cents=0)

    till.sweep()
    till.tell()

    assert saved_cards(account) == []
    assert till.count("charge") == 1
    assert AutoRecharge.objects.get().pause_reason == "card_missing"
    assert [one["customer"] for one in till.world.store.all("payment_method")] == [None]


def test_the_chosen_card_is_charged(till: Till, account: Account) -> None:
    turn_on(till, account)
    till.top_up(account, 500, "3155")
    choose_card(account, next(card.card_id for card in saved_cards(account) if card.last4 == "4242"))
    assert [card.last4 for card in saved_cards(account)] == ["4242", "3155"]
    spend_down(account, left_cents=0)

    till.sweep()

    assert TopUp.objects.get(source="auto").status == "paid"


def test_a_card_removed_in_the_portal_is_gone_here(till: Till, account: Account) -> None:
    till.top_up(account)
    payments.detach_payment_method(till.world, {}, saved_cards(account)[0].card_id)

    till.tell()

    assert saved_cards(account) == []


def test_anothers_card_is_absent(till: Till, account: Account) -> None:
    from billing.ledger import open_account

    till.top_up(account)
    other = open_account(name="other")

    with pytest.raises(CardMissing):
        remove_card(other, saved_cards(account)[0].card_id)

    assert len(saved_cards(account)) == 1


def test_recharging_needs_a_card(till: Till, account: Account) -> None:
    with pytest.raises(CardMissing):
        recharging.set_auto_recharge(account, threshold_nanos=1, amount_cents=500, monthly_ceiling_cents=500)

    assert not AutoRecharge.objects.exists()


@pytest.mark.parametrize(("amount", "ceiling"), [(499, 5000), (100_001, 200_000), (2000, 1999)])
def test_amounts_that_do_not_fit_change_nothing(till: Till, account: Account, amount: int, ceiling: int) -> None:
    turn_on(till, account)

    with pytest.raises(RechargeInvalid):
        recharging.set_auto_recharge(account, threshold_nanos=1, amount_cents=amount, monthly_ceiling_cents=ceiling)

    assert AutoRecharge.objects.get().amount_cents == 2000


def test_nothing_is_recharged_where_nobody_collects(account: Account) -> None:
    with pytest.raises(PaymentsOff):
        recharging.set_auto_recharge(account, threshold_nanos=1, amount_cents=500, monthly_ceiling_cents=500)

    assert recharging.recharge_due() == []
    assert balance(account).granted == CREDIT_NANOS
