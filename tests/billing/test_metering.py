"""Tests of the meter: what a settled call leaves behind, and caps under concurrency, in the real database."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.books import check_books
from billing.errors import BudgetExceeded, StorageUnavailable
from billing.groups import Write
from billing.ids import uuid7
from billing.ledger import balance
from billing.metering import DeliveryMark, Meter
from billing.models import Account, Budget, GatewayProcess, Lease, Price, UsageEvent, UsageRefund, UsageRollup
from billing.refunding import WriteRefunds
from tests.billing.facts import CREDIT_NANOS, call, in_thread, monthly_cap, until, usage_of, whole_account, with_meter

pytestmark = pytest.mark.django_db(transaction=True)


class Failing:
    """A companion that is refused."""

    def write(self, items: Sequence[object]) -> list[Any]:
        """Refuse all."""
        return [ValueError("refused") for _ in items]


def test_a_settled_call_is_an_event_an_hour_and_spent_money(account: Account, price: Price) -> None:
    usage = usage_of(account, price, units=30, occurred_at=datetime(2026, 11, 22, 19, 34, 15, tzinfo=UTC))

    receipt = with_meter(lambda meter: call(meter, [whole_account(account)], usage))

    assert (receipt.units, receipt.charge_nanos, receipt.currency) == (30, 6_000, "usd")
    event = UsageEvent.objects.get(pk=usage.event_id)
    assert (event.account_id, event.price_id, event.units, event.charge_nanos) == (account.pk, price.pk, 30, 6_000)
    assert event.occurred_at == usage.occurred_at
    rollup = UsageRollup.objects.get()
    assert (rollup.hour, rollup.events, rollup.units, rollup.charge_nanos) == (datetime(2026, 11, 22, 19, tzinfo=UTC), 1, 30, 6_000)
    assert balance(account).spent == 6_000
    assert balance(account).held == 0
    assert check_books() == []


def test_many_calls_at_once_add_up(account: Account, price: Price) -> None:
    budgets = [whole_account(account), monthly_cap(account, 10**9)]

    async def body(meter: Meter) -> None:
        await asyncio.gather(*(call(meter, budgets, usage_of(account, price, units=1 + n % 7, source=f"key-{n % 3}")) for n in range(200)))

    with_meter(body)

    total = sum(1 + n % 7 for n in range(200)) * 200
    assert UsageEvent.objects.count() == 200
    assert [budget.spent_nanos for budget in Budget.objects.all()] == [total, total]
    assert [budget.leased_nanos for budget in Budget.objects.all()] == [0, 0]
    assert check_books() == []


def test_a_test_call_is_recorded_and_free(account: Account, price: Price) -> None:
    receipt = with_meter(lambda meter: call(meter, [], usage_of(account, price, livemode=False)))

    assert receipt.charge_nanos == 0
    event = UsageEvent.objects.get()
    assert (event.livemode, event.price_id, event.charge_nanos) == (False, None, 0)
    assert UsageRollup.objects.get().events == 1
    assert balance(account).spent == 0


def test_a_refused_companion_charges_nothing(account: Account, price: Price) -> None:
    together: list[Write] = [(Failing(), None)]

    async def body(meter: Meter) -> None:
        hold = await meter.hold([whole_account(account)], 6_000)
        with pytest.raises(ValueError, match="refused"):
            await meter.settle(hold, usage_of(account, price, units=30), together=together)
        await call(meter, [whole_account(account)], usage_of(account, price, units=1))

    with_meter(body)

    assert [event.units for event in UsageEvent.objects.all()] == [1]
    assert balance(account).spent == 200
    assert balance(account).held == 0
    assert not UsageRefund.objects.exists()  # The mark of what was delivered went past the failed one.


def test_a_charge_above_the_hold_is_refused(account: Account, price: Price) -> None:
    async def body(meter: Meter) -> None:
        hold = await meter.hold([whole_account(account)], 100)
        with pytest.raises(ValueError, match="above"):
            await meter.settle(hold, usage_of(account, price, units=1))
        hold.release()

    with_meter(body)

    assert not UsageEvent.objects.exists()


def test_an_event_id_charges_once(account: Account, price: Price) -> None:
    usage = usage_of(account, price)

    async def body(meter: Meter) -> None:
        outcomes = await asyncio.gather(*(call(meter, [whole_account(account)], usage) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(outcome, BaseException) for outcome in outcomes) == 4

    with_meter(body)

    assert UsageEvent.objects.count() == 1
    assert balance(account).spent == 2_000
    assert check_books() == []


@pytest.mark.parametrize("replayable", [False, True])
def test_a_caller_that_goes_away_while_it_is_charged_gets_its_money_back(account: Account, price: Price, *, replayable: bool) -> None:
    async def body(meter: Meter) -> None:
        hold = await meter.hold([whole_account(account)], 2_000)
        settling = asyncio.ensure_future(meter.settle(hold, usage_of(account, price, replayable=replayable)))
        await asyncio.sleep(0)
        settling.cancel()
        hold.release()
        with pytest.raises(asyncio.CancelledError):
            await settling

    with_meter(body)

    # A reply that is stored can be asked for again, so it stays charged.
    assert UsageEvent.objects.count() == 1
    assert UsageRefund.objects.count() == (0 if replayable else 1)
    assert balance(account).spent == (2_000 if replayable else 0)
    assert balance(account).held == 0
    assert check_books() == []


def test_a_refund_that_could_not_be_written_is_tried_again_and_later_calls_stay_charged(
    account: Account, price: Price, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, refusals = WriteRefunds.write, [StorageUnavailable("The disk is full.")]

    def refuse_once(self: WriteRefunds, items: Sequence[Any]) -> list[Any]:
        return [refusals.pop() for _ in items] if refusals else write(self, items)

    monkeypatch.setattr(WriteRefunds, "write", refuse_once)

    async def body(meter: Meter) -> None:
        hold = await meter.hold([whole_account(account)], 2_000)
        settling = asyncio.ensure_future(meter.settle(hold, usage_of(account, price)))
        await asyncio.sleep(0)
        settling.cancel()
        await until(lambda: not refusals)
        await call(meter, [whole_account(account)], usage_of(account, price))
        await until(lambda: meter._delivered.mark == 2)

    with_meter(body)

    assert UsageRefund.objects.count() == 1
    assert balance(account).spent == 2_000
    assert check_books() == []


def test_what_was_not_delivered_when_the_meter_stops_is_refunded(account: Account, price: Price) -> None:
    async def body(meter: Meter) -> None:
        for number in range(4):
            await call(meter, [whole_account(account)], usage_of(account, price), delivered=number != 2)

    with_meter(body)

    # The third was not; the fourth is above the gap, and whether it was is not kept.
    assert UsageRefund.objects.count() == 2
    assert balance(account).spent == 4_000
    assert check_books() == []


@pytest.mark.parametrize("failing", [0, 3], ids=["all succeed", "every third fails"])
def test_a_cap_worth_100_calls_serves_exactly_100_of_64_callers(account: Account, price: Price, failing: int) -> None:
    cap = monthly_cap(account, 100 * 2_000)
    most_held = 0

    async def body(meter: Meter) -> list[int]:
        nonlocal most_held
        served = refused = attempts = 0

        async def caller() -> None:
            nonlocal served, refused, attempts, most_held
            refusals = 0
            while refusals < 20:
                attempts += 1
                attempt = attempts
                try:
                    hold = await meter.hold([whole_account(account), cap], 2_000)
                except BudgetExceeded:
                    refused += 1
                    refusals += 1
                    await asyncio.sleep(0.01)
                    continue
                most_held = max(most_held, served * 2_000 + meter.held_nanos // 2)
                if failing and attempt % failing == 0:
                    await asyncio.sleep(0)
                    hold.release()  # The model failed.
                    continue
                receipt = await meter.settle(hold, usage_of(account, price))
                served += 1
                meter.mark_delivered(receipt.seq)

        await asyncio.gather(*(caller() for _ in range(64)))
        return [served, refused]

    served, refused = with_meter(body)

    assert served == 100
    assert refused > 0
    assert UsageEvent.objects.count() == 100
    budget = Budget.objects.get(subject="key:1")
    assert (budget.spent_nanos, budget.leased_nanos) == (200_000, 0)
    assert most_held <= 200_000
    assert check_books() == []


def test_two_processes_share_a_cap_without_a_call_too_many(account: Account, price: Price) -> None:
    cap = monthly_cap(account, 100 * 2_000)

    async def body(first: Meter) -> int:
        second = Meter()
        await second.start()
        served = 0
        deadline = time.monotonic() + 10

        async def caller(meter: Meter) -> None:
            nonlocal served
            while served < 100 and time.monotonic() < deadline:
                try:
                    await call(meter, [whole_account(account), cap], usage_of(account, price))
                except BudgetExceeded:
                    await asyncio.sleep(0.05)  # The other may have leased it; within a second it gives it back.
                else:
                    served += 1

        try:
            await asyncio.gather(*(caller(meter) for meter in (first, second) for _ in range(16)))
            for meter in (first, second):
                with pytest.raises(BudgetExceeded):
                    await call(meter, [cap], usage_of(account, price))
        finally:
            await second.stop()
        return served

    assert with_meter(body) == 100
    assert UsageEvent.objects.count() == 100
    assert check_books() == []


def test_idle_leases_are_back_within_two_seconds(account: Account, price: Price) -> None:
    async def body(meter: Meter) -> None:
        await call(meter, [whole_account(account)], usage_of(account, price))
        assert (await in_thread(lambda: balance(account))).held > 0
        deadline = time.monotonic() + 2
        while (await in_thread(lambda: balance(account))).held:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    with_meter(body)


def test_new_credit_can_be_spent_at_once(account: Account, price: Price) -> None:
    async def body(meter: Meter) -> None:
        usage = usage_of(account, price, units=CREDIT_NANOS // 200 + 1)
        with pytest.raises(BudgetExceeded):
            await call(meter, [whole_account(account)], usage)
        await in_thread(lambda: Budget.objects.filter(account=account).update(limit_nanos=2 * CREDIT_NANOS))
        await asyncio.sleep(0.15)  # A refusal is remembered for a tenth of a second.
        await call(meter, [whole_account(account)], usage)

    with_meter(body)


def test_the_meter_says_when_calls_must_be_refused(account: Account) -> None:
    async def body() -> None:
        meter = Meter()
        assert not meter.is_open()
        with pytest.raises(StorageUnavailable):
            meter.check_open()
        await meter.start()
        assert meter.is_open()
        meter.check_open()
        assert await in_thread(lambda: GatewayProcess.objects.filter(pk=meter.process_id).exists())
        await meter.stop()
        assert not meter.is_open()

    asyncio.run(body())


def test_nothing_is_left_leased_after_stop(account: Account, price: Price) -> None:
    async def body(meter: Meter) -> None:
        await meter.hold([whole_account(account), monthly_cap(account, 10**9)], 10_000)  # Never released.

    with_meter(body)

    assert [budget.leased_nanos for budget in Budget.objects.all()] == [0, 0]
    assert not Lease.objects.exists()


@given(st.permutations(range(1, 12)))
def test_the_delivery_mark_is_the_end_of_the_gapless_beginning(order: list[int]) -> None:
    mark, seen = DeliveryMark(), set[int]()

    for seq in order:
        mark.add(seq)
        seen.add(seq)
        assert set(range(1, mark.mark + 1)) <= seen
        assert mark.mark + 1 not in seen


def test_a_usage_without_terms_is_free() -> None:
    account, price = Account(id=uuid7()), Price(id=uuid7(), unit="token", unit_nanos=5, sku="s")

    assert usage_of(account, price, units=3).charge_nanos() == 15
    assert usage_of(account, price, units=3, livemode=False).charge_nanos() == 0
