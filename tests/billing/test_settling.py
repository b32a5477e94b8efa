"""Tests of the rows that settled calls leave."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, transaction

from billing.errors import ProcessFenced
from billing.ids import uuid7
from billing.models import Account, Lease, Price, UsageEvent, UsageRollup
from billing.settling import Settled, Settlement, WriteSettlements
from tests.billing.facts import Recorder

pytestmark = pytest.mark.django_db


@pytest.fixture
def recorder(account: Account) -> Recorder:
    """A process with a lease of 10,000 nanos."""
    recorder = Recorder(account)
    recorder.lend(10_000)
    return recorder


def settlement(recorder: Recorder, price: Price, *, seq: int = 1, units: int = 5) -> Settlement:
    return Settlement(
        process_id=recorder.identity.id,
        seq=seq,
        event_id=uuid7(),
        account_id=recorder.account.pk,
        price_id=price.pk,
        sku=price.sku,
        unit=price.unit,
        units=units,
        charge_nanos=units * price.unit_nanos,
        livemode=True,
        source="key-1",
        occurred_at=datetime(2026, 11, 22, 19, 59, 59, 999_999, tzinfo=UTC),
        replayable=False,
        budget_ids=[recorder.budget.pk],
    )


def test_a_group_is_one_sum_per_hour_and_one_payment(recorder: Recorder, price: Price) -> None:
    items = [settlement(recorder, price, seq=seq) for seq in range(1, 8)]
    later = replace(settlement(recorder, price, seq=8), occurred_at=datetime(2026, 11, 22, 20, tzinfo=UTC))

    WriteSettlements(lambda: recorder.identity.id).write([*items, later])

    assert [(rollup.hour.hour, rollup.events, rollup.units) for rollup in UsageRollup.objects.order_by("hour")] == [(19, 7, 35), (20, 1, 5)]
    assert Lease.objects.get().amount_nanos == 2_000
    assert UsageEvent.objects.get(seq=8).occurred_at == later.occurred_at
    assert UsageEvent.objects.get(seq=1).budgets == str(recorder.budget.pk)


def test_a_call_held_under_an_earlier_identity_is_not_paid_with_the_new_ones_lease(recorder: Recorder, price: Price) -> None:
    earlier = replace(settlement(recorder, price), process_id=uuid7())
    current = settlement(recorder, price, seq=2)

    lost, kept = WriteSettlements(lambda: recorder.identity.id).write([earlier, current])

    assert isinstance(lost, ProcessFenced)
    assert kept == Settled(charge_nanos=1000)
    assert [event.pk for event in UsageEvent.objects.all()] == [current.event_id]
    assert Lease.objects.get().amount_nanos == 9_000


def test_more_than_the_lease_cannot_be_settled(recorder: Recorder, price: Price) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        WriteSettlements(lambda: recorder.identity.id).write([settlement(recorder, price, units=51)])

    assert not UsageEvent.objects.exists()


def test_a_budget_without_a_lease_cannot_be_settled_from(recorder: Recorder, price: Price) -> None:
    Lease.objects.all().delete()

    with pytest.raises(ProcessFenced), transaction.atomic():
        WriteSettlements(lambda: recorder.identity.id).write([settlement(recorder, price)])

    assert not UsageEvent.objects.exists()
