"""Tests of lease sizes, and of what the database lends."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import ProcessFenced
from billing.ids import uuid7
from billing.lending import GiveLeases, LeaseAsk, LeaseGrant, LeaseReturn, TakeLeasesBack, lease_size
from billing.models import Account, Budget, Lease
from billing.periods import EPOCH, month_of
from billing.processes import ProcessIdentity

pytestmark = pytest.mark.django_db

amounts = st.lists(st.integers(min_value=1, max_value=1000), min_size=1, max_size=64)
nanos = st.integers(min_value=0, max_value=10**6)


@given(amounts, nanos, nanos)
def test_a_lease_is_never_more_than_what_is_left(asked: list[int], free: int, left: int) -> None:
    assert 0 <= lease_size(asked, free_nanos=free, left_nanos=left) <= left


@given(amounts, nanos, nanos)
def test_a_lease_serves_every_call_that_the_money_could_serve_in_order(asked: list[int], free: int, left: int) -> None:
    served = 0
    for amount in asked:
        if served + amount <= free + left:
            served += amount

    assert free + lease_size(asked, free_nanos=free, left_nanos=left) >= served


def test_a_lease_is_generous_far_from_the_limit_and_exact_near_it() -> None:
    assert lease_size([10], free_nanos=0, left_nanos=10**9) == 1000  # A hundred calls.
    assert lease_size([10], free_nanos=0, left_nanos=800) == 100  # An eighth of what is left.
    assert lease_size([10], free_nanos=0, left_nanos=79) == 10  # Just the call.
    assert lease_size([10], free_nanos=3, left_nanos=7) == 7
    assert lease_size([10], free_nanos=0, left_nanos=9) == 0


@pytest.fixture
def me(db: None) -> ProcessIdentity:
    """A registered process."""
    identity = ProcessIdentity()
    identity.register(delivered_seq=0)
    return identity


def ask(
    account: Account,
    process_id: UUID,
    amount: int,
    *,
    limit_nanos: int | None = None,
    subject: str = "account",
    starts_at: datetime = EPOCH,
) -> LeaseAsk:
    return LeaseAsk(
        process_id=process_id,
        account_id=account.pk,
        subject=subject,
        interval="total" if limit_nanos is None else "month",
        starts_at=starts_at,
        ends_at=None if limit_nanos is None else month_of(starts_at)[1],
        limit_nanos=limit_nanos,
        budget_id=None,
        amounts=[amount],
        free_nanos=0,
    )


def give(process_id: UUID, question: LeaseAsk) -> LeaseGrant:
    (grant,) = GiveLeases(lambda: process_id).write([question])
    assert isinstance(grant, LeaseGrant)
    return grant


def test_a_lease_is_counted_on_budget_and_process(account: Account, me: ProcessIdentity) -> None:
    grant = give(me.id, ask(account, me.id, 1_000))

    budget = Budget.objects.get(account=account)
    assert grant.granted_nanos == budget.leased_nanos == Lease.objects.get(process=me.id).amount_nanos == 100_000
    assert grant.left_nanos == budget.limit_nanos - 100_000


def test_an_unknown_budget_without_a_limit_lends_nothing(account: Account, me: ProcessIdentity) -> None:
    grant = give(me.id, ask(account, me.id, 1, subject="nobody"))

    assert (grant.budget_id, grant.granted_nanos, grant.limit_nanos) == (None, 0, 0)


def test_a_cap_opens_its_month_on_first_use_and_follows_changes(account: Account, me: ProcessIdentity) -> None:
    month = datetime(2026, 11, 1, tzinfo=UTC)
    give(me.id, ask(account, me.id, 10, limit_nanos=500, subject="key:1", starts_at=month))
    lowered = give(me.id, ask(account, me.id, 10, limit_nanos=5, subject="key:1", starts_at=month))

    budget = Budget.objects.get(subject="key:1")
    assert (budget.starts_at, budget.ends_at, budget.interval) == (month, datetime(2026, 12, 1, tzinfo=UTC), "month")
    assert (budget.limit_nanos, lowered.granted_nanos) == (5, 0)


def test_a_returned_lease_can_be_lent_again(account: Account, me: ProcessIdentity) -> None:
    grant = give(me.id, ask(account, me.id, 1_000))
    assert grant.budget_id is not None

    TakeLeasesBack(lambda: me.id).write([LeaseReturn(me.id, grant.budget_id, grant.granted_nanos)])

    assert Budget.objects.get(account=account).leased_nanos == 0
    assert Lease.objects.get(process=me.id).amount_nanos == 0


def test_an_earlier_identity_neither_gets_nor_returns_anything(account: Account, me: ProcessIdentity) -> None:
    earlier = uuid7()
    grant = give(me.id, ask(account, me.id, 1_000))
    assert grant.budget_id is not None

    (refused,) = GiveLeases(lambda: me.id).write([ask(account, earlier, 1_000)])
    (kept,) = TakeLeasesBack(lambda: me.id).write([LeaseReturn(earlier, grant.budget_id, 10)])

    assert isinstance(refused, ProcessFenced)
    assert isinstance(kept, ProcessFenced)
    assert Budget.objects.get(account=account).leased_nanos == grant.granted_nanos


def test_more_than_is_left_is_never_lent_even_if_what_was_read_is_stale(
    account: Account, me: ProcessIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billing.lending._read", lambda *_: (10**12, 0, 10**12))  # As before another process leased.

    with transaction.atomic():
        grant = give(me.id, ask(account, me.id, 10**11))

    assert grant.granted_nanos == 0
    assert connection.in_atomic_block
    assert Budget.objects.get(account=account).leased_nanos == 0


def test_a_lease_is_of_whole_calls() -> None:
    """Parts of calls at several processes add up to one that none of them can serve: 99 of 100 were served so."""
    assert lease_size([2_000], free_nanos=0, left_nanos=30_000) == 2_000  # Not 3,750, an eighth.
    assert lease_size([2_000, 500], free_nanos=0, left_nanos=200_000) == 24_000
