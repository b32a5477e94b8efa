"""Tests of group commit: atomic units, isolated failures, a locked database, fencing, lost commits."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, OperationalError, connection
from django.utils import timezone

from billing import storage
from billing.committer import GroupCommitter
from billing.errors import CommitInDoubt, ProcessFenced, StorageUnavailable
from billing.models import CreditPool, GatewayProcess, LedgerAccount
from billing.processes import ProcessIdentity
from tests.billing.facts import in_thread, lose_next_commit, until

pytestmark = pytest.mark.django_db(transaction=True)


class Refused(Exception):
    """What `WriteNames` answers to a name that it does not like."""


class WriteNames:
    """Writes ledger accounts by name: a small table with a unique column."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.entered = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def write(self, items: Sequence[str]) -> list[Any]:
        """Write names; "unwanted" is refused, a name that is taken fails."""
        self.entered.set()
        self.may_go_on.wait(10)
        self.groups.append(len(items))
        good = [name for name in items if name != "unwanted"]
        for name in good:
            LedgerAccount.objects.create(name=name)
        return [name if name in good else Refused() for name in items]


class WritePools:
    """Another kind, whose database refuses what is overdrawn."""

    def write(self, items: Sequence[int]) -> list[Any]:
        """Write pools of that much granted."""
        for granted in items:
            CreditPool.objects.create(name=f"pool {granted}", limit_nanos=5, granted_nanos=granted)
        return list(items)


def run(body: Callable[[GroupCommitter], Awaitable[None]], *, renewed: Callable[[UUID], None] = lambda _: None) -> None:
    async def main() -> None:
        committer = GroupCommitter(delivered=lambda: 0, renewed=renewed)
        await committer.start()
        try:
            await body(committer)
        finally:
            await committer.stop()

    asyncio.run(main())


def names() -> set[str]:
    return set(LedgerAccount.objects.values_list("name", flat=True))


@contextmanager
def locked_database() -> Iterator[None]:
    """Another program keeps SQLite's write lock."""
    other = sqlite3.connect(str(connection.settings_dict["NAME"]), isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


only_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="how SQLite locks")


def test_what_waits_during_a_commit_shares_the_next() -> None:
    kind = WriteNames()

    async def body(committer: GroupCommitter) -> None:
        kind.may_go_on.clear()
        first = committer.submit(kind, "first")
        await asyncio.to_thread(kind.entered.wait, 5)
        others = [committer.submit(kind, f"name {number}") for number in range(40)]
        kind.may_go_on.set()
        assert await asyncio.gather(first, *others) == ["first", *(f"name {number}" for number in range(40))]

    run(body)

    assert kind.groups == [1, 40]
    assert len(names()) == 41


def test_one_failing_item_takes_no_others_with_it() -> None:
    kind = WriteNames()

    async def body(committer: GroupCommitter) -> None:
        await committer.submit(kind, "taken")
        kind.may_go_on.clear()
        first = committer.submit(kind, "first")
        await asyncio.to_thread(kind.entered.wait, 5)
        outcomes = [committer.submit(kind, name) for name in ("a", "taken", "b", "unwanted", "c")]
        kind.may_go_on.set()
        a, taken, b, unwanted, c = await asyncio.gather(*outcomes, return_exceptions=True)
        await first
        assert (a, b, c) == ("a", "b", "c")
        assert isinstance(taken, IntegrityError)
        assert isinstance(unwanted, Refused)
        assert committer.refusal is None  # Bad items are no reason to shut.

    run(body)

    assert names() == {"taken", "first", "a", "b", "c"}


@pytest.mark.parametrize("second", ["unwanted", "taken"])
def test_writes_together_happen_all_or_none(second: str) -> None:
    kind, pools = WriteNames(), WritePools()

    async def body(committer: GroupCommitter) -> None:
        await committer.submit(kind, "taken")
        kind.may_go_on.clear()
        first = committer.submit(kind, "first")
        kind.entered.clear()
        await asyncio.to_thread(kind.entered.wait, 0.2)
        bad = committer.submit_together([(pools, 1), (kind, second)])
        good = committer.submit_together([(kind, "good"), (pools, 2)])
        kind.may_go_on.set()
        outcomes = await asyncio.gather(bad, good, first, return_exceptions=True)
        assert isinstance(outcomes[0], Refused | IntegrityError)
        assert outcomes[1] == ["good", 2]

    run(body)

    assert names() == {"taken", "first", "good"}
    assert list(CreditPool.objects.values_list("granted_nanos", flat=True)) == [2]


def test_a_row_that_the_database_refuses_only_at_commit_fails_alone() -> None:
    class WriteOrphans:
        def write(self, items: Sequence[str]) -> list[Any]:
            with connection.cursor() as cursor:  # The foreign key is checked at COMMIT.
                cursor.execute(
                    "INSERT INTO billing_ledgeraccount (name, account_id, currency) VALUES (%s, %s, 'usd')", [items[0], UUID(int=1).hex]
                )
            return [None] * len(items)

    kind, orphans = WriteNames(), WriteOrphans()

    async def body(committer: GroupCommitter) -> None:
        bad, good = committer.submit(orphans, "orphan"), committer.submit(kind, "good")
        with pytest.raises(IntegrityError):
            await bad
        assert await good == "good"
        assert committer.refusal is None

    run(body)

    assert names() == {"good"}


@only_sqlite
def test_a_locked_database_refuses_in_time_and_recovers_by_itself() -> None:
    kind = WriteNames()

    async def body(committer: GroupCommitter) -> None:
        await committer.submit(kind, "before")
        with locked_database():
            started = time.monotonic()
            with pytest.raises(StorageUnavailable) as refused:
                await committer.submit(kind, "during")
            assert time.monotonic() - started < 5
            assert refused.value.code == "storage_unavailable"
            assert committer.refusal is not None
        await until(lambda: committer.refusal is None)
        await committer.submit(kind, "after")

    run(body)

    assert names() == {"before", "after"}


@only_sqlite
def test_a_nearly_full_disk_shuts_the_gate_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(committer: GroupCommitter) -> None:
        assert committer.refusal is None
        monkeypatch.setattr(storage, "MIN_FREE_BYTES", 2**62)
        await until(lambda: committer.refusal is not None)
        monkeypatch.setattr(storage, "MIN_FREE_BYTES", 0)
        await until(lambda: committer.refusal is None)

    run(body)


def test_a_reclaimed_process_writes_nothing_more_and_goes_on_under_a_new_id() -> None:
    kind = WriteNames()
    renewed: list[UUID] = []

    async def body(committer: GroupCommitter) -> None:
        first_id = committer.process_id
        await in_thread(lambda: GatewayProcess.objects.filter(pk=first_id).update(reclaimed_at=timezone.now()))
        with pytest.raises(ProcessFenced):
            await committer.submit(kind, "during")
        await until(lambda: committer.refusal is None)
        assert committer.process_id != first_id
        assert renewed == [committer.process_id]
        await committer.submit(kind, "after")

    run(body, renewed=renewed.append)

    assert names() == {"after"}


@pytest.mark.parametrize("happened", [True, False])
def test_a_commit_whose_answer_is_lost_is_looked_up(monkeypatch: pytest.MonkeyPatch, *, happened: bool) -> None:
    kind = WriteNames()

    async def body(committer: GroupCommitter) -> None:
        await committer.submit(kind, "before")
        lose_next_commit(monkeypatch, after_it_happened=happened)
        outcome = (await asyncio.gather(committer.submit(kind, "doubtful"), return_exceptions=True))[0]
        assert outcome == "doubtful" if happened else isinstance(outcome, StorageUnavailable)
        await until(lambda: committer.refusal is None)
        await committer.submit(kind, "after")

    run(body)

    assert names() == {"before", "after"} | ({"doubtful"} if happened else set())


def test_a_commit_that_cannot_be_looked_up_gives_up_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = WriteNames()
    looked_up: list[int] = []

    def fail(self: ProcessIdentity) -> bool:
        looked_up.append(1)
        raise CommitInDoubt(process_id=self.id)

    async def body(committer: GroupCommitter) -> None:
        first_id = committer.process_id
        monkeypatch.setattr(ProcessIdentity, "resolve_commit", fail)
        lose_next_commit(monkeypatch, after_it_happened=True)
        with pytest.raises(CommitInDoubt):
            await committer.submit(kind, "doubtful")
        with pytest.raises(StorageUnavailable, match="a new identity first"):
            await committer.submit(kind, "too early")
        await until(lambda: committer.process_id != first_id)
        row = await in_thread(lambda: GatewayProcess.objects.get(pk=first_id))
        assert row.reclaimed_at is not None

    run(body)

    assert looked_up == [1]


@pytest.mark.parametrize("times", [2, 3])
def test_a_group_that_lost_a_deadlock_is_tried_again(times: int) -> None:
    class Loser(Exception):
        sqlstate = "40P01"

    class Deadlocks(WriteNames):
        left = times

        def write(self, items: Sequence[str]) -> list[Any]:
            if self.left:
                self.left -= 1
                raise OperationalError from Loser()
            return super().write(items)

    async def body(committer: GroupCommitter) -> None:
        outcome = (await asyncio.gather(committer.submit(Deadlocks(), "name"), return_exceptions=True))[0]
        assert outcome == "name" if times < 3 else isinstance(outcome, StorageUnavailable)
        assert committer.refusal is None  # The storage is well; only these two were in each other's way.

    run(body)

    assert names() == ({"name"} if times < 3 else set())


@pytest.mark.skipif(connection.vendor != "postgresql", reason="a server's connection can be ended")
def test_a_connection_that_the_server_ends_costs_a_refusal_and_no_more() -> None:
    kind = WriteNames()

    def end_others() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )

    async def body(committer: GroupCommitter) -> None:
        for number in range(5):
            await in_thread(end_others)
            outcomes = await asyncio.gather(*(committer.submit(kind, f"{number}.{n}") for n in range(10)), return_exceptions=True)
            assert all(isinstance(outcome, str | StorageUnavailable) for outcome in outcomes)
            await until(lambda: committer.refusal is None)
            written = await in_thread(names)
            assert {outcome for outcome in outcomes if isinstance(outcome, str)} == {n for n in written if n.startswith(f"{number}.")}

    run(body)


def test_a_heartbeat_is_written_each_second_without_any_work() -> None:
    async def body(committer: GroupCommitter) -> None:
        read = lambda: GatewayProcess.objects.get(pk=committer.process_id)  # noqa: E731 (read twice)
        before = await in_thread(read)
        await asyncio.sleep(1.3)
        after = await in_thread(read)
        assert after.heartbeat_at > before.heartbeat_at
        assert after.commit_seq > before.commit_seq

    run(body)


def test_stop_writes_what_waits_closes_the_row_and_refuses_what_comes_later() -> None:
    kind = WriteNames()
    committers: list[GroupCommitter] = []

    async def main() -> None:
        committer = GroupCommitter(delivered=lambda: 0, renewed=lambda _: None)
        committers.append(committer)
        await committer.start()
        waiting = [committer.submit(kind, f"name {number}") for number in range(20)]
        await committer.stop()
        assert len(await asyncio.gather(*waiting)) == 20
        with pytest.raises(StorageUnavailable):
            await committer.submit(kind, "too late")

    asyncio.run(main())

    row = GatewayProcess.objects.get(pk=committers[0].process_id)
    assert row.closed_at is not None
    assert row.reclaimed_at is not None
    assert len(names()) == 20


def test_start_fails_where_the_database_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ProcessIdentity, *, delivered_seq: int) -> None:
        raise OperationalError

    monkeypatch.setattr(ProcessIdentity, "register", fail)

    async def main() -> None:
        with pytest.raises(StorageUnavailable):
            await GroupCommitter(delivered=lambda: 0, renewed=lambda _: None).start()

    asyncio.run(main())


def test_a_kind_that_breaks_its_contract_fails_its_callers_and_not_the_thread() -> None:
    class Miscounts:
        def write(self, _: Sequence[str]) -> list[Any]:
            return []

    kind = WriteNames()

    async def body(committer: GroupCommitter) -> None:
        with pytest.raises(ValueError, match="zip"):
            await committer.submit(Miscounts(), "x")
        assert await committer.submit(kind, "fine") == "fine"

    run(body)
