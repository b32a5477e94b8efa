"""Tests of prices by tiers as calls pay them: each at its own place in the month, under any concurrency."""

import asyncio
from datetime import UTC, datetime

import pytest

from billing.books import check_books
from billing.errors import BudgetExceeded
from billing.invoicing import close_period
from billing.ledger import balance
from billing.metering import Meter, Receipt, Usage
from billing.models import Account, Budget, CreditGrant, Price, UsageCounter, UsageEvent
from billing.periods import EPOCH
from billing.prices import set_price, terms_of
from billing.pricing import Shape, Tier, total
from billing.refunding import refund_event
from billing.shapes import render_shape
from tests.billing.facts import in_thread, monthly_cap, usage_of, whole_account, with_meter

pytestmark = pytest.mark.django_db(transaction=True)

GRADUATED = Shape(
    scheme="graduated",
    tiers=(Tier(up_to=100, unit_nanos=1000), Tier(up_to=300, unit_nanos=400, flat_nanos=77), Tier(up_to=None, unit_nanos=100)),
)
SHAPES = [
    GRADUATED,
    Shape(scheme="volume", tiers=GRADUATED.tiers),
    Shape(scheme="package", unit_nanos=5000, package_units=7),
    Shape(unit_nanos=1000, free_units=50, minimum_nanos=90_000),
]


def priced(shape: Shape, *, sku: str = "house/tiers@1") -> Price:
    return set_price(sku=sku, unit="token", shape=shape, meter="house/tiers")


async def pay(meter: Meter, account: Account, usage: Usage) -> Receipt:
    """Hold the highest charge, settle, and say that it was delivered, as a gateway does."""
    assert usage.terms is not None
    highest = await meter.highest_charge(usage.account_id, usage.terms, usage.units, moment=usage.occurred_at)
    hold = await meter.hold([whole_account(account)], highest)
    try:
        receipt = await meter.settle(hold, usage)
    finally:
        hold.release()
    meter.mark_delivered(receipt.seq)
    return receipt


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.scheme)
def test_calls_at_once_come_to_what_the_month_comes_to_in_one(account: Account, shape: Shape) -> None:
    price = priced(shape)
    counts = [1, 30, 7, 60, 2, 45, 13, 90, 5, 120, 1, 26]

    async def body(meter: Meter) -> list[Receipt]:
        return await asyncio.gather(*(pay(meter, account, usage_of(account, price, units=count)) for count in counts))

    receipts = with_meter(body)

    assert sum(receipt.charge_nanos for receipt in receipts) == total(shape, sum(counts))
    assert UsageCounter.objects.get().units == sum(counts)
    assert sum(UsageEvent.objects.values_list("charge_nanos", flat=True)) == Budget.objects.get(subject="account").spent_nanos
    assert check_books() == []


def test_two_processes_share_one_month(account: Account) -> None:
    price = priced(GRADUATED)

    async def body(first: Meter) -> int:
        second = Meter()
        await second.start()
        try:
            calls = [pay(meter, account, usage_of(account, price, units=11)) for meter in (first, second) for _ in range(20)]
            return sum(receipt.charge_nanos for receipt in await asyncio.gather(*calls))
        finally:
            await second.stop()

    assert with_meter(body) == total(GRADUATED, 11 * 40)
    assert check_books() == []


def test_all_versions_of_a_model_count_towards_one_tier_and_each_month_begins_anew(account: Account) -> None:
    one, two = priced(GRADUATED), priced(GRADUATED, sku="house/tiers@2")
    december = datetime(2026, 12, 3, tzinfo=UTC)

    async def body(meter: Meter) -> list[int]:
        usages = [
            usage_of(account, one, units=100),
            usage_of(account, two, units=10),
            usage_of(account, two, units=10, occurred_at=december),
        ]
        return [(await pay(meter, account, usage)).charge_nanos for usage in usages]

    assert with_meter(body) == [100_000, 10 * 400 + 77, 10_000]


def test_a_fee_that_is_paid_is_not_held_again_by_any_process(account: Account) -> None:
    """The account has 10 dollars: the month's fee of 9 fits once, and calls after it need only their own price."""
    price = priced(Shape(scheme="graduated", tiers=(Tier(up_to=1000, flat_nanos=9 * 10**9), Tier(up_to=None, unit_nanos=10**6))))

    async def call(meter: Meter) -> int:
        return (await pay(meter, account, usage_of(account, price, units=10))).charge_nanos

    assert with_meter(call) == 9 * 10**9
    assert with_meter(call) == 0  # Another process, which knows nothing of the month but what it asks.


def test_a_call_that_could_cost_too_much_is_refused_and_counts_nothing(account: Account) -> None:
    price = priced(Shape(scheme="graduated", tiers=(Tier(up_to=10, flat_nanos=11 * 10**9), Tier(up_to=None))))

    async def body(meter: Meter) -> None:
        with pytest.raises(BudgetExceeded):
            await pay(meter, account, usage_of(account, price))
        assert await in_thread(UsageCounter.objects.count) == 0

    with_meter(body)
    assert not UsageEvent.objects.exists()


def test_a_group_that_fails_gives_its_place_in_the_month_back(account: Account) -> None:
    """The same event id twice: the second call is refused, and the next one is charged as if it had not been."""
    price = priced(GRADUATED)

    async def body(meter: Meter) -> int:
        usage = usage_of(account, price, units=100)
        await pay(meter, account, usage)
        with pytest.raises(Exception, match=r"(?i)unique"):
            await pay(meter, account, usage)
        return (await pay(meter, account, usage_of(account, price, units=1))).charge_nanos

    assert with_meter(body) == 477
    assert UsageCounter.objects.get().units == 101


def test_trial_units_are_free_once_and_count_towards_no_month(account: Account) -> None:
    shape = Shape(scheme="graduated", tiers=GRADUATED.tiers, trial_units=25)
    price = priced(shape)

    async def body(meter: Meter) -> list[int]:
        return [(await pay(meter, account, usage_of(account, price, units=units))).charge_nanos for units in (20, 10, 95, 1)]

    assert with_meter(body) == [0, 5000, 95_000, 477]


def test_cached_answers_pay_their_own_price_and_move_no_tier(account: Account) -> None:
    price = priced(Shape(scheme="graduated", tiers=GRADUATED.tiers, cached_unit_nanos=10))

    async def body(meter: Meter) -> list[int]:
        usages = [usage_of(account, price, units=100)._replace(is_cached=True), usage_of(account, price, units=100)]
        return [(await pay(meter, account, usage)).charge_nanos for usage in usages]

    assert with_meter(body) == [1000, 100_000]
    assert list(UsageEvent.objects.order_by("seq").values_list("cached", flat=True)) == [True, False]


def test_a_refunded_call_keeps_its_place(account: Account) -> None:
    """So that no later charge changes behind the customer's back."""
    price = priced(GRADUATED)

    async def body(meter: Meter) -> int:
        receipt = await pay(meter, account, usage_of(account, price, units=100))
        await in_thread(lambda: refund_event(receipt.event_id, reason="test", by="test"))
        return (await pay(meter, account, usage_of(account, price, units=1))).charge_nanos

    assert with_meter(body) == 477
    assert Budget.objects.get(subject="account").spent_nanos == 477
    assert check_books() == []


def test_a_cap_by_tiers_is_never_overshot(account: Account) -> None:
    """64 callers, a cap of 60,000 nanos: what is spent never passes it, and ends within one call's highest price of it."""
    price = priced(GRADUATED)
    cap = monthly_cap(account, 60_000)
    served = 0

    async def caller(meter: Meter) -> None:
        nonlocal served
        for _ in range(4):
            usage = usage_of(account, price, units=1)
            highest = await meter.highest_charge(account.pk, terms_of_price, 1, moment=usage.occurred_at)
            try:
                hold = await meter.hold([whole_account(account), cap], highest)
            except BudgetExceeded:
                continue
            try:
                meter.mark_delivered((await meter.settle(hold, usage)).seq)
            finally:
                hold.release()
            served += 1

    terms_of_price = terms_of(price)

    async def body(meter: Meter) -> None:
        await asyncio.gather(*(caller(meter) for _ in range(64)))

    with_meter(body)
    spent = Budget.objects.get(subject="key:1").spent_nanos
    assert spent == total(GRADUATED, served) <= 60_000
    assert spent > 60_000 - 1477  # Less is left than a call could cost.
    assert check_books() == []


def test_the_close_of_a_month_at_a_volume_price_gives_back_what_was_above_the_rate_reached(account: Account) -> None:
    """Stripe's example: 6 units at $4 are $24, but the first five had been charged $5 each."""
    cents = 10_000_000
    tiers = (Tier(up_to=5, unit_nanos=5 * cents), Tier(up_to=None, unit_nanos=4 * cents))
    price = Price.objects.create(
        sku="house/v@1", unit="token", unit_nanos=5 * cents, shape=render_shape(Shape(scheme="volume", tiers=tiers)), effective_from=EPOCH
    )
    october = datetime(2025, 10, 5, tzinfo=UTC)

    async def body(meter: Meter) -> list[int]:
        return [(await pay(meter, account, usage_of(account, price, units=1, occurred_at=october))).charge_nanos // cents for _ in range(6)]

    assert with_meter(body) == [5, 5, 5, 5, 5, 0]
    before = balance(account).available
    invoice = close_period(account, datetime(2025, 10, 1, tzinfo=UTC))
    close_period(account, datetime(2025, 10, 1, tzinfo=UTC))

    assert invoice.lines.get().charge_nanos == 25 * cents
    assert balance(account).available - before == 1 * cents
    assert CreditGrant.objects.filter(kind="rebate").count() == 1
    assert check_books() == []
