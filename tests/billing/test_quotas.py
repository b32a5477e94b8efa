"""Tests of quotas: hard ones hold to the unit under any number of callers, soft ones charge what is beyond alone."""

import asyncio

import pytest
from django.utils import timezone

from billing.agreements import Allowance
from billing.books import check_books
from billing.errors import QuotaExceeded
from billing.ids import uuid7
from billing.ledger import balance
from billing.metering import Meter, Usage
from billing.models import Account, Budget, Plan, Subscription, UsageCounter, UsageEvent
from billing.periods import month_of
from billing.pricing import Terms
from billing.refunding import refund_event
from billing.subscriptions import subscribe, used_now
from tests.billing.facts import whole_account, with_meter
from tests.billing.planned import FEE, allowance_of, hard, soft

pytestmark = pytest.mark.django_db(transaction=True)


def usage_under(account: Account, terms: Terms, *, units: int = 1) -> Usage:
    """One call's usage under a plan."""
    return Usage(
        event_id=uuid7(), account_id=account.pk, terms=terms, sku="house/model@1", unit=terms.unit, units=units, livemode=True,
        source="key-1", occurred_at=timezone.now(), replayable=False,
    )  # fmt: skip


async def call_under(meter: Meter, account: Account, allowance: Allowance, *, units: int = 1) -> int:
    """Hold, settle and deliver a call under a plan, as a gateway does; return its charge."""
    usage = usage_under(account, allowance.terms, units=units)
    highest = await meter.highest_charge(account.pk, allowance.terms, units, moment=usage.occurred_at)
    hold = await meter.hold([whole_account(account)], highest, quota=allowance.quota, units=units)
    try:
        await asyncio.sleep(0)
        receipt = await meter.settle(hold, usage)
    finally:
        hold.release()
    meter.mark_delivered(receipt.seq)
    return receipt.charge_nanos


async def crowd(meter: Meter, account: Account, allowance: Allowance, *, callers: int, rounds: int) -> tuple[int, int]:
    """Call from many callers at once; return how many calls were served, and how many refused."""
    served = refused = 0

    async def one() -> None:
        nonlocal served, refused
        for _ in range(rounds):
            try:
                await call_under(meter, account, allowance)
                served += 1
            except QuotaExceeded:
                refused += 1

    await asyncio.gather(*(one() for _ in range(callers)))
    return served, refused


def full_month(account: Account, plan: Plan) -> Allowance:
    subscribe(account, plan, by="anna", now=month_of(timezone.now())[0])
    return allowance_of(account)


def test_a_hard_quota_of_100_calls_under_64_callers_serves_exactly_100(account: Account) -> None:
    allowance = full_month(account, hard())

    served, refused = with_meter(lambda meter: crowd(meter, account, allowance, callers=64, rounds=4))

    assert (served, refused) == (100, 156)
    quota = Budget.objects.get(subject__startswith="quota:")
    assert (quota.spent_nanos, quota.leased_nanos) == (100, 0)
    assert UsageEvent.objects.filter(sku="house/model@1").count() == 100
    assert balance(account).spent == FEE  # The calls cost nothing more.
    assert used_now(Subscription.objects.get()).units == 100
    assert check_books() == []


def test_two_processes_share_a_hard_quota_exactly(account: Account) -> None:
    allowance = full_month(account, hard())

    async def body(meter: Meter) -> int:
        other = Meter()
        await other.start()
        try:
            crowds = await asyncio.gather(*(crowd(one, account, allowance, callers=32, rounds=6) for one in (meter, other)))
            await asyncio.sleep(1.5)  # What either kept of its lease comes back within a second.
            last = await crowd(meter, account, allowance, callers=8, rounds=4)
        finally:
            await other.stop()
        return sum(served for served, _ in (*crowds, last))

    assert with_meter(body) == 100
    assert Budget.objects.get(subject__startswith="quota:").spent_nanos == 100
    assert check_books() == []


def test_a_refused_call_holds_neither_money_nor_units(account: Account) -> None:
    allowance = full_month(account, hard(included=3))

    async def body(meter: Meter) -> None:
        with pytest.raises(QuotaExceeded) as refusal:
            await call_under(meter, account, allowance, units=4)
        assert (refusal.value.limit, refusal.value.used, refusal.value.asked) == (3, 0, 4)
        assert refusal.value.resets_at == month_of(timezone.now())[1]
        assert meter.held_nanos == 0
        await call_under(meter, account, allowance, units=3)

    with_meter(body)

    assert Budget.objects.get(subject__startswith="quota:").spent_nanos == 3


def test_a_refund_gives_the_units_back(account: Account) -> None:
    allowance = full_month(account, hard(included=3))
    with_meter(lambda meter: call_under(meter, account, allowance, units=2))

    refund_event(UsageEvent.objects.get(sku="house/model@1").pk, reason="test", by="test")

    assert Budget.objects.get(subject__startswith="quota:").spent_nanos == 0
    assert check_books() == []


def test_a_soft_quota_charges_the_overage_beyond_it_alone(account: Account) -> None:
    allowance = full_month(account, soft(included=100, overage=1000))

    async def body(meter: Meter) -> list[int]:
        return await asyncio.gather(*(call_under(meter, account, allowance, units=7) for _ in range(20)))

    charges = with_meter(body)

    assert sum(charges) == 40 * 1000  # 140 units, of which 100 are included.
    assert UsageCounter.objects.get().units == 140
    assert used_now(Subscription.objects.get()).units == 140
    assert check_books() == []
