"""Group commit: one thread writes what all finished calls need, many calls per transaction.

A commit costs a disk flush however much is in it. While one runs, finished calls queue up; the
next takes all of them. Under load this divides the flush by the group, and unloaded nobody waits.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from django.db import Error, connection, transaction

from billing import recovery
from billing.errors import CommitInDoubt, ProcessFenced, StorageUnavailable
from billing.groups import Outcome, Unit, UnitFailed, Write, WriteKind, pass_on, wake_callers, write_units
from billing.processes import ProcessIdentity
from billing.sql import open_cursor
from billing.storage import find_shortage, is_deadlock, is_unavailable, unavailable

log = logging.getLogger(__name__)

# More per group would only lengthen the wait of those behind it: at 256 the flush is divided away.
_MAX_GROUP: Final = 256
# Under load commits begin at least this far apart, in seconds. A commit costs 0.5 ms CPU and more
# however many calls share it: at 900 calls a second this makes groups of 4 into groups of 10. Where
# one call comes after another, as from a lone client, nobody waits.
_GATHER_S: Final = 0.010
_HEARTBEAT_S: Final = 1.0
# How often a group is tried that PostgreSQL rolled back to end a deadlock with another process.
_TRIES: Final = 3
# How long to wait for another writer of SQLite, in milliseconds. Callers wait as long for their 503.
_BUSY_TIMEOUT_MS: Final = 2000


class Deadlocked(StorageUnavailable):
    """The group was rolled back for another transaction's sake, each time. Nothing was written."""


class GroupCommitter:
    """The commit thread of this process, with its database connection and its identity.

    All public methods but `stop` are called on the event loop's thread.
    """

    def __init__(
        self, *, delivered: Callable[[], int], renewed: Callable[[UUID], None], committed: Callable[[float], None] = lambda _: None
    ) -> None:
        """Prepare; `start` starts.

        Args:
            delivered: Returns the seq up to which all replies have been delivered. Called on the commit thread.
            renewed: Called on the event loop when the process got a new identity: leases of the old one are gone.
            committed: Called on the commit thread with the seconds that each group took.
        """
        self._delivered = delivered
        self._renewed = renewed
        self._committed = committed
        self._queue: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
        self._identity = ProcessIdentity()
        self._prepared: Any = None  # The driver's connection that has our settings.
        self._is_busy = False  # The last group held more than one call.
        self._began = 0.0  # When it was begun, by the monotonic clock.
        self._is_stopping = False
        self._is_doubtful = False  # The identity must be given up: it was fenced, or a commit's fate is unknown.
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started: asyncio.Future[None] | None = None
        self.process_id: UUID = self._identity.id  # As the event loop knows it.
        self.written_at = 0.0  # When it last wrote, by the monotonic clock.
        self.refusal: StorageUnavailable | None = StorageUnavailable("The commit thread has not started.")

    async def start(self) -> None:
        """Start the thread and register the process.

        Raises:
            StorageUnavailable: the database cannot be written.
        """
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.create_future()
        self._thread.start()
        await self._started

    async def stop(self) -> None:
        """Write what waits, close the process's row, end the thread. What is submitted later fails."""
        self._is_stopping = True
        self._queue.put(None)
        # Off the loop: the thread's last groups are answered on it.
        await asyncio.to_thread(self._thread.join)

    def submit(self, kind: WriteKind, item: object) -> "asyncio.Future[Any]":
        """Queue one write; the future brings its result once it is durable.

        The future fails with StorageUnavailable when nothing could be written.
        """
        future: asyncio.Future[Any] = self._new_future()
        whole: asyncio.Future[list[Any]] = self.submit_together([(kind, item)])
        whole.add_done_callback(lambda done: pass_on(done, future))
        return future

    def submit_together(self, writes: Sequence[Write], *, orphaned: Callable[[Outcome], None] | None = None) -> "asyncio.Future[list[Any]]":
        """Queue writes that happen together or not at all; the future brings their results in order.

        Args:
            writes: Kinds with their items.
            orphaned: Called on the loop with the outcome when the future was cancelled meanwhile: the writes
                may have happened all the same.
        """
        future: asyncio.Future[list[Any]] = self._new_future()
        if self._is_stopping:
            future.set_exception(StorageUnavailable("The site is stopping."))
        else:
            self._queue.put(Unit(writes, future, orphaned))
        return future

    def _new_future(self) -> "asyncio.Future[Any]":
        assert self._loop is not None, "start() comes first"
        return self._loop.create_future()

    # ------------------------------------------------------------ The commit thread

    def writing_as(self) -> UUID:
        """Return the process's id as the commit thread writes it. Called by kinds, on that thread."""
        return self._identity.id

    def _run(self) -> None:
        try:
            self._connect()
            self._identity.register(delivered_seq=self._delivered())
        except Exception as error:  # noqa: BLE001 (raised by start())
            connection.close()
            self._tell(self._fail_start, unavailable(error) if isinstance(error, Error) else error)
            return
        self.refusal, self.written_at = find_shortage(), time.monotonic()
        self._tell(self._end_start)
        next_beat = time.monotonic() + _HEARTBEAT_S
        while True:
            group = self._next_group(until=next_beat)
            is_last = bool(group) and group[-1] is None
            units = [unit for unit in group if unit is not None]
            if units:
                self._is_busy, self._began = len(units) > 1, time.monotonic()
                self._commit(units)
            if is_last:
                break
            if time.monotonic() >= next_beat:
                self._beat()
                next_beat = time.monotonic() + _HEARTBEAT_S
        self._close()

    def _next_group(self, *, until: float) -> "list[Unit | None]":
        """Wait for a unit until the given time; return it with all that wait behind it. None ends the work."""
        group: list[Unit | None] = []
        with suppress(queue.Empty):
            group.append(self._queue.get(timeout=max(0.0, until - time.monotonic())))
            if self._is_busy:
                time.sleep(max(0.0, self._began + _GATHER_S - time.monotonic()))
            while group[-1] is not None and len(group) < _MAX_GROUP:
                group.append(self._queue.get_nowait())
        return group

    def _commit(self, units: list[Unit]) -> None:
        """Write a group and wake its callers, all with one call into the loop."""
        outcomes: dict[Unit, Outcome] = {}
        try:
            self._write(units, outcomes)
        except Exception as error:  # The thread must live: whatever it is, its callers get it.
            log.exception("A group of %d could not be written.", len(units))
            outcomes.update({unit: error for unit in units if unit not in outcomes})
        self._committed(time.monotonic() - self._began)
        self._tell(wake_callers, outcomes)

    def _write(self, units: list[Unit], outcomes: dict[Unit, Outcome]) -> None:
        """Write units in one transaction; where one of them is at fault, the others without it."""
        tries_left = _TRIES
        while units:
            tries_left -= 1
            try:
                self._transact(units, outcomes)
            except Deadlocked as error:
                if tries_left > 0:
                    continue
                outcomes.update(dict.fromkeys(units, error))
            except StorageUnavailable as refusal:
                self._shut(refusal)
                outcomes.update(dict.fromkeys(units, refusal))
            except UnitFailed as failed:
                outcomes[failed.unit] = failed.error
                units = [unit for unit in units if unit is not failed.unit]
                continue
            except Exception as error:  # noqa: BLE001 (it belongs to whoever caused it)
                if len(units) == 1:
                    outcomes[units[0]] = error
                else:
                    for unit in units:
                        self._write([unit], outcomes)
            return

    def _transact(self, units: list[Unit], outcomes: dict[Unit, Outcome]) -> None:
        """Write all units in one transaction, or none and raise."""
        if self._is_doubtful:
            # The count of commits, by which a lost COMMIT is looked up, may be off by one.
            message = "The process takes a new identity first."
            raise StorageUnavailable(message)
        results: dict[Unit, Outcome] = {}
        is_at_commit = False
        try:
            self._connect()
            with transaction.atomic():
                cursor = open_cursor()
                self._identity.touch(cursor, delivered_seq=self._delivered())
                results = write_units(cursor, units)
                is_at_commit = True
        except Error as error:
            if is_deadlock(error):
                raise Deadlocked(str(error)) from error
            if not is_unavailable(error):  # A row is at fault, if only at COMMIT: foreign keys are checked there.
                raise
            self._settle_doubt(error, is_at_commit=is_at_commit)
        except ProcessFenced:
            self._is_doubtful = True
            raise
        self._identity.committed()
        self.written_at = time.monotonic()
        outcomes.update(results)

    def _settle_doubt(self, error: Error, *, is_at_commit: bool) -> None:
        """Return if the transaction was committed all the same; raise why not otherwise."""
        if is_at_commit:
            try:
                if self._identity.resolve_commit():
                    return
            except CommitInDoubt:
                # What the group wrote may be there. Its callers are told no; this identity is
                # given up, and recovery refunds whatever is found to be written.
                self._is_doubtful = True
                raise
        if connection.vendor != "sqlite":
            connection.close()  # It may be half dead; the next transaction starts on a fresh one.
        raise unavailable(error)

    def _connect(self) -> None:
        """Make sure of a connection that waits for a lock no longer than callers can."""
        if connection.connection is None or connection.connection is not self._prepared:
            connection.ensure_connection()
            if connection.vendor == "sqlite":
                with connection.cursor() as cursor:
                    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            self._prepared = connection.connection

    def _beat(self) -> None:
        """Show that we live, or shut the gate; open it again when the database can be written."""
        try:
            if self._is_doubtful:
                self._renew()
            self._transact([], {})
        except StorageUnavailable as refusal:
            self._shut(refusal)
        except Exception as error:
            log.exception("The heartbeat failed.")
            self._shut(StorageUnavailable(str(error)))
        else:
            shortage = find_shortage()
            if self.refusal is not None and shortage is None:
                log.warning("Storage can be written again.")
            self.refusal = shortage

    def _shut(self, refusal: StorageUnavailable) -> None:
        if self.refusal is None:
            log.error("Calls are refused: %s", refusal)
        self.refusal = refusal

    def _renew(self) -> None:
        """Give up the identity and take a new one; what the old one left is recovered as after a crash."""
        try:
            self._connect()
            recovery.reclaim_process(self._identity.id, delivered_seq=self._delivered())
            identity = ProcessIdentity()
            identity.register(delivered_seq=self._delivered())
        except Error as error:
            connection.close()
            raise unavailable(error) from error
        log.warning("The process %s goes on as %s.", self._identity.id, identity.id)
        self._identity, self._is_doubtful = identity, False
        self._tell(self._go_on_as, identity.id)

    def _close(self) -> None:
        """Return the leases and close the row. What has not been delivered is refunded, as after a crash."""
        self.refusal = StorageUnavailable("The site is stopping.")
        try:
            recovery.reclaim_process(self._identity.id, delivered_seq=self._delivered(), is_closing=True)
        except Error:
            log.exception("The process's row could not be closed; a sweep will reclaim it.")
        connection.close()

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # The loop is closed: nobody waits any more.
            log.warning("The event loop ended before the commit thread.")

    # ------------------------------------------------------------ Called back on the event loop

    def _end_start(self) -> None:
        assert self._started is not None
        if not self._started.done():
            self._started.set_result(None)

    def _fail_start(self, error: Exception) -> None:
        assert self._started is not None
        if not self._started.done():
            self._started.set_exception(error)

    def _go_on_as(self, process_id: UUID) -> None:
        self.process_id = process_id
        self._renewed(process_id)
