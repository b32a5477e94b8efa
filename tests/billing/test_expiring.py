"""Credit that expires: what leaves, what never does, and twice is once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.books import check_books
from billing.errors import BudgetExceeded
from billing.expiring import expire_due, list_grants
from billing.ledger import balance, credit_account_name, grant_credit, grant_free_credit, ledger_balance, open_account
from billing.metering import Meter
from billing.models import Account, CreditExpiry, CreditGrant, Price
from billing.money import Nanos
from billing.recovery import reclaim_process
from billing.refunding import refund_event
from tests.billing.facts import Recorder, call, in_thread, usage_of, whole_account, with_meter

SOON = timedelta(hours=1)


@pytest.fixture
def account(db: None) -> Account:
    """1,000,000 nanos of the operator's that never expire, and 500,000 of free credit that do in an hour."""
    opened = open_account(name="acme")
    grant_credit(opened, Nanos(1_000_000), kind="operator", reference="lasting", by="test")
    expires_at = timezone.now() + SOON
    grant_free_credit(opened, amount_nanos=Nanos(500_000), pool_limit_nanos=Nanos(10**12), reference="gift", expires_at=expires_at)
    return opened


def later() -> datetime:
    return timezone.now() + 2 * SOON


def lefts(account: Account) -> dict[str, tuple[int, int]]:
    return {state.grant.reference: (state.left_nanos, state.expired_nanos) for state in list_grants(account)}


@pytest.mark.django_db
def test_what_nobody_spent_in_time_leaves_once(account: Account, price: Price) -> None:
    Recorder(account).record(price, units=600)  # 120,000 nanos: of the gift, which expires.
    assert lefts(account) == {"gift": (380_000, 0), "lasting": (1_000_000, 0)}
    assert expire_due() == 0  # Its hour has not come.

    assert [expire_due(now=later()) for _ in range(3)] == [1, 0, 0]

    assert lefts(account) == {"gift": (0, 380_000), "lasting": (1_000_000, 0)}
    assert balance(account).available == 1_000_000
    assert (ledger_balance("promotion"), ledger_balance(credit_account_name(account))) == (-120_000, 1_120_000)
    assert check_books() == []


@pytest.mark.django_db
def test_a_grant_that_was_spent_leaves_nothing_and_is_not_looked_at_again(account: Account, price: Price) -> None:
    Recorder(account).record(price, units=5_000)  # A million.

    assert expire_due(now=later()) == 0

    assert CreditExpiry.objects.filter(is_final=True, amount_nanos=0, transaction=None).count() == 1
    assert lefts(account) == {"gift": (0, 0), "lasting": (500_000, 0)}
    assert check_books() == []


@pytest.mark.django_db
def test_what_is_held_is_left_to_its_call_and_what_that_gives_back_leaves_next(account: Account, price: Price) -> None:
    recorder = Recorder(account)
    recorder.lend(450_000)

    assert expire_due(now=later()) == 1
    assert balance(account).available == 1_000_000
    assert lefts(account)["gift"] == (450_000, 50_000)

    reclaim_process(recorder.identity.id)
    assert expire_due(now=later()) == 1
    assert lefts(account)["gift"] == (0, 500_000)
    assert balance(account).available == 1_000_000
    assert check_books() == []


@pytest.mark.django_db
def test_a_refund_after_the_expiry_is_credit_to_spend(account: Account, price: Price) -> None:
    event = Recorder(account).record(price, units=1_000)
    expire_due(now=later())
    refund_event(event.pk, reason="test", by="test")

    assert expire_due(now=later()) == 0
    assert balance(account).available == 1_200_000
    assert check_books() == []


@pytest.mark.django_db
def test_the_same_gift_again_is_one_gift_and_its_facts_cannot_be_changed(account: Account) -> None:
    expire_due(now=later())
    for change in (lambda: CreditExpiry.objects.update(amount_nanos=1), lambda: CreditGrant.objects.update(priority=0)):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
            change()


@pytest.mark.django_db
@pytest.mark.parametrize("priority", [-1, 101])
def test_a_priority_is_from_0_to_100(account: Account, priority: int) -> None:
    with pytest.raises(ValueError, match="priority"):
        grant_credit(account, Nanos(1), kind="operator", reference="odd", by="test", priority=priority)
    assert not CreditGrant.objects.filter(reference="odd")


@pytest.mark.django_db(transaction=True)
def test_calls_and_the_sweep_at_once_lose_nothing(price: Price) -> None:
    """Credit worth 100 calls expires while 16 callers spend it: each call is served or its money expired, none both."""
    account = open_account(name="racing")
    grant_credit(account, Nanos(200_000), kind="operator", reference="racing", by="test", expires_at=datetime(2026, 1, 1, tzinfo=UTC))

    async def caller(meter: Meter) -> int:
        served = 0
        while True:
            try:
                await call(meter, [whole_account(account)], usage_of(account, price))
            except BudgetExceeded:
                return served
            served += 1

    async def body(meter: Meter) -> int:
        callers = asyncio.gather(*(caller(meter) for _ in range(16)))
        await asyncio.sleep(0.01)
        for _ in range(5):
            await in_thread(expire_due)
        return sum(await callers)

    served = with_meter(body)
    expire_due()

    (state,) = list_grants(account)
    assert (state.left_nanos, state.expired_nanos) == (0, 200_000 - served * 2_000)
    assert balance(account).available == 0
    assert check_books() == []
