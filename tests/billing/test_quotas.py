"""Tests of quotas: hard ones hold to the unit under any number of callers, soft ones charge what is beyond alone."""

import asyncio
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from billing import agreements
from billing.agreements import Allowance, agreements_of
from billing.books import check_books
from billing.errors import QuotaExceeded
from billing.ids import uuid7
from billing.leases import BudgetSpec
from billing.ledger import balance
from billing.metering import Meter, Usage
from billing.models import Account, Budget, Plan, Subscription, UsageCounter, UsageEvent
from billing.periods import month_of
from billing.pricing import Terms
from billing.refunding import refund_event
from billing.subscriptions import renew, subscribe, used_now
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


async def run_accepted(meter: Meter, account: Account, terms: Terms, quota: BudgetSpec | None, *, calls: int) -> int:
    """Run rows that were accepted at a price before; return how many the quota let through."""
    served = 0
    for _ in range(calls):
        try:
            hold = await meter.hold([whole_account(account)], 0, quota=quota, units=1)
        except QuotaExceeded:
            continue
        try:
            receipt = await meter.settle(hold, usage_under(account, terms))
        finally:
            hold.release()
        meter.mark_delivered(receipt.seq)
        served += 1
    return served


def last_month() -> datetime:
    return month_of(month_of(timezone.now())[0] - timedelta(days=1))[0]


def test_rows_of_a_plan_that_has_ended_have_what_is_left_of_its_last_month(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three units of last month were paid for. The rows run today; no month's quota is given for nothing."""
    monkeypatch.setattr(agreements, "_KEPT", timedelta(days=99))  # Rows wait for eight days; here, for a month.
    row = subscribe(account, hard(included=3), by="anna", now=last_month())
    Subscription.objects.filter(pk=row.pk).update(state="ended", reason="cancelled", ends_at=row.paid_until)
    (agreement,) = agreements_of(account.pk)
    quota = agreement.quota_at(timezone.now())

    served = with_meter(lambda meter: run_accepted(meter, account, agreement.first.terms, quota, calls=5))

    assert served == 3
    budget = Budget.objects.get(subject__startswith="quota:")
    assert (budget.starts_at, budget.spent_nanos, budget.leased_nanos) == (last_month(), 3, 0)
    assert check_books() == []


def test_rows_of_a_plan_that_goes_on_count_on_the_month_in_which_they_run(account: Account) -> None:
    """Begun in mid-month, with a part of the units; accepted at that part's price; run in the month after."""
    row = subscribe(account, hard(included=10), by="anna", now=last_month() + timedelta(days=20))
    renew(row.pk, grace=timedelta(days=3))
    (agreement,) = agreements_of(account.pk)
    quota = agreement.quota_at(timezone.now())

    served = with_meter(lambda meter: run_accepted(meter, account, agreement.first.terms, quota, calls=12))

    assert (served, used_now(Subscription.objects.get()).units) == (10, 10)
    assert Budget.objects.get(subject__startswith="quota:").starts_at == month_of(timezone.now())[0]
    assert check_books() == []


def test_a_plan_that_lapsed_covers_nothing_of_the_month_that_was_not_paid(account: Account) -> None:
    row = subscribe(account, hard(included=3), by="anna", now=last_month())
    lapsed = row.paid_until + timedelta(days=3)
    Subscription.objects.filter(pk=row.pk).update(state="ended", reason="lapsed", ends_at=lapsed)
    Subscription.objects.filter(pk=row.pk).update(ends_at=max(lapsed, timezone.now()))  # So that it is still known.

    (agreement,) = agreements_of(account.pk)

    assert agreement.at(row.paid_until - timedelta(seconds=1)) is not None
    assert agreement.at(row.paid_until) is None
    quota = agreement.quota_at(row.paid_until + timedelta(days=1))
    assert quota is not None
    assert quota.past == last_month()
