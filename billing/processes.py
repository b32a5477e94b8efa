"""One gateway process as the database knows it: registered, alive, fenced."""

import time
from typing import Final
from uuid import UUID

from django.db import Error, connection, transaction
from django.db.backends.utils import CursorWrapper

from billing.errors import CommitInDoubt, ProcessFenced
from billing.ids import uuid7
from billing.sql import database_now, execute, uuid_value

# How long a lost COMMIT is asked after before we give up, in seconds. Callers wait meanwhile.
_RESOLVE_S: Final = 3.0


class ProcessIdentity:
    """This process's row in `GatewayProcess`. Used by the commit thread alone.

    Raises of every method: django.db.Error when the database cannot be reached.
    """

    def __init__(self) -> None:
        self.id: UUID = uuid7()
        self._commit_seq = 0  # Of the last commit that is known to have happened.

    def register(self, *, delivered_seq: int) -> None:
        """Insert the row; from here on the process counts as alive."""
        now = database_now()
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO billing_gatewayprocess (id, started_at, heartbeat_at, commit_seq, delivered_seq) "  # noqa: S608 (no input)
                f"VALUES (%s, {now}, {now}, 0, %s)",
                [uuid_value(self.id), delivered_seq],
            )

    def touch(self, cursor: CursorWrapper, *, delivered_seq: int) -> None:
        """Begin a commit: count it, renew the heartbeat, and note what was delivered.

        It also locks the row, so that a reclaimer waits for this commit or stops it.

        Raises:
            ProcessFenced: the process was reclaimed; the transaction must be rolled back.
        """
        touched = execute(
            cursor,
            f"UPDATE billing_gatewayprocess SET commit_seq = %s, delivered_seq = %s, heartbeat_at = {database_now()} "  # noqa: S608 (no input)
            "WHERE id = %s AND reclaimed_at IS NULL",
            [self._commit_seq + 1, delivered_seq, uuid_value(self.id)],
        )
        if touched == 0:
            message = f"The process {self.id} was reclaimed."
            raise ProcessFenced(message)

    def committed(self) -> None:
        """Note that the commit begun by `touch` happened."""
        self._commit_seq += 1

    def resolve_commit(self) -> bool:
        """Return whether a COMMIT whose answer was lost happened.

        FOR UPDATE, since the server may still be working on it: the row's lock is free
        only when it is through, one way or the other.

        Raises:
            CommitInDoubt: the database did not answer in time; nobody knows.
        """
        deadline = time.monotonic() + _RESOLVE_S
        lock = "FOR UPDATE" if connection.vendor == "postgresql" else ""
        while True:
            connection.close()
            try:
                with transaction.atomic(), connection.cursor() as cursor:
                    cursor.execute(f"SELECT commit_seq FROM billing_gatewayprocess WHERE id = %s {lock}", [uuid_value(self.id)])  # noqa: S608 (constant)
                    row = cursor.fetchone()
            except Error as error:
                if time.monotonic() >= deadline:
                    raise CommitInDoubt(process_id=self.id) from error
                time.sleep(0.1)
            else:
                return row is not None and row[0] == self._commit_seq + 1
