"""Whether the database can be written, and how much room it has."""

import os
from typing import Final

from django.db import Error, InterfaceError, OperationalError, connection

from billing.errors import StorageUnavailable

# Below this many free bytes calls are refused before they run, so that those that are running
# can still be settled: a commit of 256 calls is under 1 MB, a WAL checkpoint under 4 MB.
MIN_FREE_BYTES: Final = 8 * 1024 * 1024


def is_unavailable(error: BaseException) -> bool:
    """Whether an error means that the database cannot be written now, not that a row is wrong.

    OperationalError is what both drivers raise for locked, full, I/O errors, timeouts and
    lost connections; InterfaceError for a connection that was already closed.
    """
    return isinstance(error, OperationalError | InterfaceError)


def is_deadlock(error: BaseException) -> bool:
    """Whether PostgreSQL rolled a transaction back for another's sake: then it may be tried again."""
    return getattr(error.__cause__, "sqlstate", None) in {"40P01", "40001"}


def unavailable(error: Error) -> StorageUnavailable:
    """Return the refusal that stands for a database error."""
    refusal = StorageUnavailable(str(error).strip() or type(error).__name__)
    refusal.__cause__ = error
    return refusal


def find_shortage() -> StorageUnavailable | None:
    """Return a refusal when the disk below the SQLite database is nearly full, else None."""
    if connection.vendor != "sqlite":
        return None  # A server has its own disk; it tells by failing.
    try:
        status = os.statvfs(os.path.dirname(str(connection.settings_dict["NAME"])) or ".")  # noqa: PTH120 (once a second)
    except OSError as error:
        return StorageUnavailable(str(error))
    free = status.f_bavail * status.f_frsize
    if free >= MIN_FREE_BYTES:
        return None
    return StorageUnavailable(f"{free} bytes are free on the database's disk.")
