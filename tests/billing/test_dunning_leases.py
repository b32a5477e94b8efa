"""An unpaid invoice reaches the calls through their leases, in both directions, within about a second."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from billing import credit_lines
from billing.books import check_books
from billing.errors import BudgetExceeded
from billing.ledger import open_account
from billing.metering import Meter
from billing.models import Account, Price, UsageEvent
from billing.periods import EPOCH
from tests.billing.facts import call, in_thread, usage_of, whole_account, with_meter
from tests.till import Till

pytestmark = pytest.mark.django_db(transaction=True)
DOLLAR = 10**9


async def _is_served(meter: Meter, account: Account, price: Price) -> bool:
    try:
        await call(meter, [whole_account(account)], usage_of(account, price, units=1))
    except BudgetExceeded:
        return False
    return True


async def _until(meter: Meter, account: Account, price: Price, *, served: bool, pause_s: float) -> tuple[int, float]:
    """Call until it is so; return how many calls it took, and how long."""
    began = time.monotonic()
    for number in range(10_000):
        if await _is_served(meter, account, price) is served:
            return number, time.monotonic() - began
        await asyncio.sleep(pause_s)
    raise AssertionError


@pytest.mark.parametrize("pause_s", [0.0, 0.2])  # A busy caller, and one that calls now and then.
def test_a_withdrawn_line_refuses_calls_and_a_restored_one_serves_them(till: Till, pause_s: float) -> None:
    account = open_account(name="acme")
    credit_lines.set_credit_line(account, 10_000 * DOLLAR)
    price = Price.objects.create(sku="house/dear@1", unit="call", unit_nanos=DOLLAR, effective_from=EPOCH)
    assert till.count("invoice") == 0

    def withdraw() -> None:
        with transaction.atomic():
            assert credit_lines.withdraw_line(account)

    def restore() -> None:
        with transaction.atomic():
            assert credit_lines.restore_line(account)

    async def live(meter: Meter) -> tuple[int, float, float]:
        assert await _is_served(meter, account, price)
        await in_thread(withdraw)
        more, _ = await _until(meter, account, price, served=False, pause_s=pause_s)
        refused_since = time.monotonic()
        while time.monotonic() - refused_since < 0.5:  # And stay refused.
            assert not await _is_served(meter, account, price)
            await asyncio.sleep(0.05)
        await in_thread(restore)
        began = datetime.now(UTC)
        _, back_s = await _until(meter, account, price, served=True, pause_s=0.02)
        assert datetime.now(UTC) - began < timedelta(seconds=5)
        return more, back_s, 0.0

    more, back_s, _ = with_meter(live)

    assert more <= 100  # What one lease may hold.
    assert back_s < 1.0
    assert UsageEvent.objects.filter(account=account).count() == 1 + more + 1
    assert check_books() == []
