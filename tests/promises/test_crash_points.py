"""Promises 1, 3, 5 and 12: crash before and after every step of settle, seal, send and apply; recover; one final state."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import F

from billing import recharging, repaying, sending, topups, webhooks
from billing.books import check_books
from billing.customers import remove_card, saved_cards
from billing.ids import uuid7
from billing.invoicing import CLOSE_AFTER, close_period
from billing.ledger import grant_credit, open_account
from billing.metering import Meter, Usage
from billing.models import Account, AutoRecharge, GatewayProcess, Invoice, Price, UsageEvent
from billing.money import Nanos
from billing.prices import set_price
from billing.pricing import Shape, Tier
from billing.providers.fake import refunds
from billing.receipting import read_receipts
from billing.receipts import canonical, leaf_hash
from billing.recovery import reclaim_dead_processes
from billing.refunding import refund_event
from tests.billing.facts import Recorder, usage_of, whole_account, with_meter
from tests.promises.accounts import money_of
from tests.promises.crash import Run, Say, crash_everywhere, run_child
from tests.till import Till

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(900)]

MONTH = datetime(2025, 1, 1, tzinfo=UTC)
CLOSING = datetime(2025, 2, 1, tzinfo=UTC) + CLOSE_AFTER
VOLUME = Shape(scheme="volume", tiers=(Tier(up_to=20, unit_nanos=900), Tier(up_to=None, unit_nanos=100)))


def rich(name: str) -> Account:
    account = open_account(name=name)
    grant_credit(account, Nanos(10_000_000_000), kind="operator", reference=f"crash:{account.pk}", by="test")
    return account


def report(what: str, points: list[str]) -> None:
    """Say how many points were crashed at, and at what."""
    print(f"{what}: {len(points)} crash points, all recovered: {dict(Counter(points).most_common())}")


# ---------------------------------------------------------------- Settle


def test_a_crash_at_any_step_of_settling_leaves_each_call_charged_once_and_answered(price: Price) -> None:
    tiered = set_price(sku="house/tiers@1", unit="token", shape=VOLUME, meter="house/tiers")
    finals: list[dict[str, Any]] = []

    def attempt(crash_at: int) -> Run:
        account = rich(f"settle {crash_at}")
        usages = {"plain": usage_of(account, price), "tiered": usage_of(account, tiered, units=30)}
        run = run_child(lambda say: settle(account, usages, say), crash_at=crash_at)

        reclaim_all()
        events = UsageEvent.objects.filter(account=account)
        kept = set(events.filter(refund__isnull=True).values_list("pk", flat=True))
        told = {usages[name].event_id for name in run.said}
        assert kept <= told <= set(events.values_list("pk", flat=True)), run  # Who was not told, or may not have been, pays nothing.
        lost = {name: usage for name, usage in usages.items() if usage.event_id not in kept}
        settle(account, {name: usage._replace(event_id=uuid7()) for name, usage in lost.items()}, lambda _: None)
        final = check(account)
        # A refunded call keeps its place in the month, so the call by tiers that comes after it may cost less; all else is one state.
        assert final.pop("balance")[1:] == (sum(charge for *_, charge in final["calls"]), 0)
        finals.append({**final, "calls": [call[:2] if call[0] == tiered.sku else call for call in final["calls"]]})
        return run

    points = crash_everywhere(attempt)

    report("settle", points)
    assert points.count("before COMMIT") >= 3
    assert all(final == finals[0] for final in finals)
    assert finals[0]["calls"] == [("house/model@1", 10, 2000), ("house/tiers@1", 30)]


def settle(account: Account, usages: dict[str, Usage], say: Say) -> None:
    """Hold, settle, tell the caller, and note that, as a gateway does for each call."""

    async def body(meter: Meter) -> None:
        for name, usage in usages.items():
            assert usage.terms is not None
            highest = await meter.highest_charge(usage.account_id, usage.terms, usage.units, moment=usage.occurred_at)
            hold = await meter.hold([whole_account(account)], highest)
            receipt = await meter.settle(hold, usage)
            hold.release()
            say(name)
            meter.mark_delivered(receipt.seq)

    with_meter(body)


def reclaim_all() -> None:
    """Let the time pass after which a silent process is dead, and sweep."""
    GatewayProcess.objects.filter(reclaimed_at__isnull=True).update(heartbeat_at=F("heartbeat_at") - timedelta(seconds=60))
    reclaim_dead_processes()


def check(account: Account) -> dict[str, Any]:
    """Check the books and the account's chain of receipts; return what the account comes to."""
    assert check_books() == []
    before = b""
    receipts = list(read_receipts(account, since=datetime(2020, 1, 1, tzinfo=UTC), until=datetime(2100, 1, 1, tzinfo=UTC)))
    for number, receipt in enumerate(receipts, start=1):
        assert receipt.body["seq"] == number
        assert number == 1 or receipt.body["previous"] == before.hex()
        before = leaf_hash(canonical(receipt.body))
    return money_of(account)


# ---------------------------------------------------------------- Seal


def test_a_crash_at_any_step_of_closing_a_month_leaves_one_invoice(price: Price) -> None:
    volume = set_price(sku="house/volume@1", unit="token", shape=VOLUME, meter="house/volume")
    finals: list[dict[str, Any]] = []

    def attempt(crash_at: int) -> Run:
        account = rich(f"seal {crash_at}")
        recorder = Recorder(account)
        for day in range(1, 4):
            recorder.record(price, units=day * 7, occurred_at=MONTH + timedelta(days=day))
            recorder.record(volume, units=15, occurred_at=MONTH + timedelta(days=day))
        refund_event(recorder.record(price, units=3, occurred_at=MONTH).pk, reason="test", by="test")
        run = run_child(lambda _: seal(account), crash_at=crash_at)

        assert Invoice.objects.filter(account=account).count() == (run.point in {"", "after COMMIT"})
        seal(account)
        seal(account)
        finals.append(check(account))
        return run

    points = crash_everywhere(attempt)

    report("seal", points)
    assert "before COMMIT" in points
    assert all(final == finals[0] for final in finals)
    assert len(finals[0]["lines"]) == 2


def seal(account: Account) -> None:
    close_period(account, MONTH, now=CLOSING)


# ---------------------------------------------------------------- Send


def test_a_crash_at_any_step_of_sending_the_outbox_has_each_effect_once(till: Till) -> None:
    finals: list[dict[str, Any]] = []

    def attempt(crash_at: int) -> Run:
        account, newcomer, leaving = (open_account(name=f"{who} {crash_at}") for who in ("account", "newcomer", "leaving"))
        fill_outbox(till, account)
        till.top_up(leaving)
        remove_card(leaving, saved_cards(leaving)[0].card_id)
        topups.start_top_up(newcomer, 900, by="ada", success_url="http://x/", cancel_url="http://x/")
        before = count_effects(till)
        run = run_child(lambda _: send(), crash_at=crash_at, base_url=till.world.base_url)

        recover(till)
        effects = {kind: count - before[kind] for kind, count in count_effects(till).items()}
        finals.append({"account": check(account), "newcomer": check(newcomer), "leaving": check(leaving), "at Stripe": effects})
        return run

    points = crash_everywhere(attempt)

    report("send", points)
    assert points.count("before the answer is read") >= 5
    assert all(final == finals[0] for final in finals)
    assert finals[0]["at Stripe"] == {"checkout.session": 1, "customer": 1, "payment_intent": 1, "charge": 1, "refund": 1}
    sent = {kind for who in ("account", "newcomer", "leaving") for kind, _ in finals[0][who]["outbox"]}
    assert sent >= {"customer.create", "checkout.create", "card.charge", "refund.create", "card.detach"}


def fill_outbox(till: Till, account: Account) -> None:
    """Leave a refund and a recharge to be sent."""
    paid = till.top_up(account, 2500)
    AutoRecharge.objects.create(account=account, is_on=True, threshold_nanos=10**15, amount_cents=700, monthly_ceiling_cents=10**6)
    repaying.refund_top_up(paid, 300, reason="r", reference=uuid7(), by="op")
    recharging.recharge_due()
    AutoRecharge.objects.update(is_on=False)


def send() -> None:
    sending.sweep()


def recover(till: Till) -> None:
    """Do what Celery does when time has passed, and hear what Stripe tells."""
    for _ in range(2):
        till.make_due()
        till.sweep()
        till.tell()


def count_effects(till: Till) -> dict[str, int]:
    """Count what Stripe has of everything that the outbox makes."""
    return {kind: till.count(kind) for kind in ("checkout.session", "customer", "payment_intent", "charge", "refund")}


# ---------------------------------------------------------------- Apply


def test_a_crash_at_any_step_of_taking_and_applying_webhooks_ends_in_one_state(till: Till) -> None:
    finals: list[dict[str, Any]] = []

    def attempt(crash_at: int) -> Run:
        account = open_account(name=f"apply {crash_at}")
        paid, disputed = till.start(account, 2500), till.start(account, 1400)
        till.tell()
        told = len(till.events())
        till.pay(paid)
        till.pay(disputed, "0259")
        refunds.create_refund(till.world, {"payment_intent": till.session(paid)["payment_intent"], "amount": 300})
        news = [event for event in till.events()[told:] if event["type"] in WEBHOOKS]
        run = run_child(lambda _: hear(till, news), crash_at=crash_at, base_url=till.world.base_url)

        till.make_due()  # The claim of whoever died ends.
        till.tell()  # What got no 200 is sent again.
        finals.append(check(account))
        return run

    points = crash_everywhere(attempt)

    report("apply", points)
    assert points.count("before COMMIT") >= len(WEBHOOKS)
    assert points.count("before the answer is read") >= len(WEBHOOKS)
    assert all(final == finals[0] for final in finals)
    assert finals[0]["balance"][0] == (2500 - 300) * 10_000_000
    assert finals[0]["disputes"] == [("open", 1400)]


# One of each way to credit or take credit; the rest are the same steps again, and their orders are promise 6.
WEBHOOKS = ("checkout.session.completed", "charge.refunded", "charge.dispute.created")


def hear(till: Till, news: list[dict[str, Any]]) -> None:
    """Take the webhooks as the site's door does, and apply them as Celery does."""
    for event in news:
        assert till.post(event).status_code == 200
    webhooks.apply_waiting()
