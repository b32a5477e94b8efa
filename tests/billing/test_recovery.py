"""Tests of recovery: what a process that died leaves behind is undone, once."""

import asyncio
import threading
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connections
from django.db.models import F

from billing.books import check_books
from billing.errors import CommitInDoubt, StorageUnavailable
from billing.ledger import balance
from billing.metering import Meter
from billing.models import Account, GatewayProcess, Lease, Price, UsageEvent, UsageRefund, UsageRollup
from billing.processes import ProcessIdentity
from billing.recovery import reclaim_dead_processes, reclaim_process
from billing.refunding import refund_event
from tests.billing.facts import Recorder, call, in_thread, lose_next_commit, until, usage_of, whole_account, with_meter

pytestmark = pytest.mark.django_db(transaction=True)


def die(recorder: Recorder, *, delivered_seq: int = 0, silent_s: float = 60) -> None:
    GatewayProcess.objects.filter(pk=recorder.identity.id).update(
        delivered_seq=delivered_seq, heartbeat_at=F("heartbeat_at") - timedelta(seconds=silent_s)
    )


def test_a_dead_process_gives_back_its_leases(account: Account) -> None:
    recorder = Recorder(account)
    recorder.lend(5_000)
    die(recorder)

    assert reclaim_dead_processes() == 1

    assert balance(account).held == 0
    assert not Lease.objects.exists()
    assert check_books() == []


def test_charges_beyond_what_was_delivered_are_refunded_unless_they_can_be_replayed(account: Account, price: Price) -> None:
    recorder = Recorder(account)
    delivered = recorder.record(price, units=1)
    doubtful = recorder.record(price, units=2)
    stored = recorder.record(price, units=4, replayable=True)
    free = recorder.record(price, units=8, livemode=False)
    die(recorder, delivered_seq=1)

    reclaim_dead_processes()

    assert {refund.event_id for refund in UsageRefund.objects.all()} == {doubtful.pk, free.pk}
    assert balance(account).spent == (delivered.units + stored.units) * 200
    assert sum(rollup.refunded_nanos for rollup in UsageRollup.objects.all()) == 400
    assert check_books() == []


def test_a_process_that_shows_life_is_left_alone(account: Account) -> None:
    recorder = Recorder(account)
    recorder.lend(5_000)
    die(recorder, silent_s=5)

    assert reclaim_dead_processes(dead_after_s=10) == 0

    assert balance(account).held == 5_000


def test_reclaiming_twice_does_it_once(account: Account, price: Price) -> None:
    recorder = Recorder(account)
    recorder.record(price)
    recorder.lend(5_000)
    die(recorder)

    assert [reclaim_dead_processes() for _ in range(3)] == [1, 0, 0]

    assert UsageRefund.objects.count() == 1
    assert check_books() == []


def test_sweeps_at_the_same_time_reclaim_once(account: Account, price: Price) -> None:
    recorders = [Recorder(account) for _ in range(3)]
    for recorder in recorders:
        recorder.record(price)
        recorder.lend(1_000)
        die(recorder)
    reclaimed: list[int] = []
    start = threading.Barrier(4)

    def sweep() -> None:
        start.wait()
        reclaimed.append(reclaim_dead_processes())
        connections.close_all()

    threads = [threading.Thread(target=sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(reclaimed) == 3
    assert UsageRefund.objects.count() == 3
    assert (balance(account).spent, balance(account).held) == (0, 0)
    assert check_books() == []


def test_a_process_taken_for_dead_charges_for_nothing_it_held_then_and_goes_on(account: Account, price: Price) -> None:
    async def body(meter: Meter) -> None:
        delivered = await call(meter, [whole_account(account)], usage_of(account, price))
        hold = await meter.hold([whole_account(account)], 2_000)
        first_id = meter.process_id
        await in_thread(lambda: reclaim_process(first_id, delivered_seq=delivered.seq))
        with pytest.raises(StorageUnavailable):
            await meter.settle(hold, usage_of(account, price))
        for _ in range(400):
            if meter.is_open() and meter.process_id != first_id:
                break
            await asyncio.sleep(0.01)
        assert meter.process_id != first_id
        await call(meter, [whole_account(account)], usage_of(account, price))

    with_meter(body)

    assert UsageEvent.objects.count() == 2
    assert not UsageRefund.objects.exists()
    assert (balance(account).spent, balance(account).held) == (4_000, 0)
    assert check_books() == []


def test_a_hold_from_before_the_renewal_cannot_be_settled_after_it(account: Account, price: Price) -> None:
    async def body(meter: Meter) -> None:
        hold = await meter.hold([whole_account(account)], 2_000)
        first_id = meter.process_id
        await in_thread(lambda: reclaim_process(first_id))
        for _ in range(400):
            if meter.is_open() and meter.process_id != first_id:
                break
            await asyncio.sleep(0.01)
        with pytest.raises(StorageUnavailable):
            await meter.settle(hold, usage_of(account, price))

    with_meter(body)

    assert not UsageEvent.objects.exists()
    assert (balance(account).spent, balance(account).held) == (0, 0)
    assert check_books() == []


def test_a_call_whose_commit_cannot_be_looked_up_is_refused_and_refunded(
    account: Account, price: Price, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ProcessIdentity) -> bool:
        raise CommitInDoubt(process_id=self.id)

    usages = [usage_of(account, price) for _ in range(3)]

    async def body(meter: Meter) -> None:
        await call(meter, [whole_account(account)], usages[0])
        first_id = meter.process_id
        monkeypatch.setattr(ProcessIdentity, "resolve_commit", fail)
        lose_next_commit(monkeypatch, after_it_happened=True)
        with pytest.raises(CommitInDoubt):
            await call(meter, [whole_account(account)], usages[1])
        await until(lambda: meter.process_id != first_id and meter.is_open())
        await call(meter, [whole_account(account)], usages[2])

    with_meter(body)

    assert set(UsageEvent.objects.values_list("pk", flat=True)) == {usage.event_id for usage in usages}
    assert UsageRefund.objects.get().event_id == usages[1].event_id
    # What came later was delivered, and is known to be: the call in doubt does not hold the mark back for ever.
    assert GatewayProcess.objects.latest("started_at").delivered_seq == 3
    assert balance(account).spent == 4_000
    assert check_books() == []


def test_a_refund_by_hand_gives_back_once_and_says_who_and_why(account: Account, price: Price) -> None:
    event = Recorder(account).record(price)

    first = refund_event(event.pk, reason="A wrong answer.", by="ada@example.com")
    again = refund_event(event.pk, reason="Again.", by="bob@example.com")

    assert first == again
    assert (again.reason, again.by, again.charge_nanos) == ("A wrong answer.", "ada@example.com", 2_000)
    assert balance(account).spent == 0
    assert check_books() == []


def test_refunding_an_absent_event_says_so() -> None:
    with pytest.raises(UsageEvent.DoesNotExist):
        refund_event(UUID(int=1), reason="test", by="test")
