"""SQL that SQLite and PostgreSQL both take: values, the clock, many rows with few statements.

The commit thread uses this instead of the ORM, which costs 100 us and more per saved row.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, Final
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.backends.utils import CursorWrapper

# Rows of one INSERT. Each statement lets go of the interpreter lock and must get it back from a
# busy event loop, up to 5 ms each time, so few large ones beat executemany. On PostgreSQL powers of
# two keep the number of different statements small, which the server prepares; SQLite's driver keeps
# as many as we like (`cached_statements`), so there a group is one statement a table.
_MAX_CHUNK: Final = 64
_CHUNKS: Final = (32, 16, 8, 4, 2, 1)


@cache
def is_sqlite() -> bool:
    """Whether the database is SQLite; else it is PostgreSQL. Kept, since `connection.vendor` takes 3 us each time."""
    return connection.vendor == "sqlite"


def execute(cursor: CursorWrapper, statement: str, values: Sequence[Any]) -> int:
    """Run a statement with `%s` places; return how many rows it touched.

    On SQLite it goes to the driver with the statement already in its form: Django's cursor looks
    for places with a regular expression each time, 40 us for an INSERT of 16 rows.
    """
    if is_sqlite():
        database = connections[DEFAULT_DB_ALIAS]
        with database.wrap_database_errors:
            return int(database.connection.execute(_for_sqlite(statement), values).rowcount)
    cursor.execute(statement, values)
    return int(cursor.rowcount)


def fetch(cursor: CursorWrapper, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run a statement with `%s` places; return all its rows as the driver gives them."""
    if is_sqlite():
        database = connections[DEFAULT_DB_ALIAS]
        with database.wrap_database_errors:
            return list(database.connection.execute(_for_sqlite(statement), values).fetchall())
    cursor.execute(statement, values)
    return list(cursor.fetchall())


@lru_cache(maxsize=512)
def _for_sqlite(statement: str) -> str:
    return statement.replace("%s", "?").replace("%%", "%")


def insert_rows(cursor: CursorWrapper, head: str, rows: Sequence[Sequence[Any]], *, tail: str = "") -> None:
    """Insert all rows.

    Args:
        cursor: Inside a transaction.
        head: `INSERT INTO table (columns)`.
        rows: Each with a value per column, already in the database's form (`time_value`, `uuid_value`).
        tail: What follows the values, such as an ON CONFLICT clause.
    """
    start = 0
    for chunk in _chunks(len(rows)):
        values = [value for row in rows[start : start + chunk] for value in row]
        execute(cursor, _insert(head, len(rows[0]), chunk, tail), values)
        start += chunk


@lru_cache(maxsize=512)
def _chunks(rows: int) -> list[int]:
    """Return the sizes of the statements that insert so many rows."""
    sizes = [_MAX_CHUNK] * (rows // _MAX_CHUNK)
    rest = rows % _MAX_CHUNK
    if is_sqlite():
        return [*sizes, rest] if rest else sizes
    return [*sizes, *(chunk for chunk in _CHUNKS if rest & chunk)]


@lru_cache(maxsize=256)
def _insert(head: str, columns: int, rows: int, tail: str) -> str:
    row = f"({', '.join(['%s'] * columns)})"
    return f"{head} VALUES {', '.join([row] * rows)} {tail}"


def time_value(moment: datetime) -> str | datetime:
    """Return an aware moment as the database's driver takes it."""
    if not is_sqlite():
        return moment
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return str(moment.replace(tzinfo=None))  # As Django stores it: other forms would not compare.


def uuid_value(value: UUID) -> str:
    """Return a UUID as 32 hexadecimal digits: SQLite's column holds that, PostgreSQL's parses it."""
    return value.hex


def database_now() -> str:
    """Return the SQL for the database's own clock, for use in a statement with parameters."""
    if not is_sqlite():
        return "clock_timestamp()"
    # As Django stores moments on SQLite: text, to the millisecond here.
    return "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')"


def lock_budgets(cursor: CursorWrapper, budget_ids: Sequence[int]) -> None:
    """Lock budget rows in ascending order: two processes locking in different orders would deadlock.

    SQLite has one writer at a time, so there is nothing to do.
    """
    if budget_ids and not is_sqlite():
        places = ", ".join(["%s"] * len(budget_ids))
        cursor.execute(f"SELECT id FROM billing_budget WHERE id IN ({places}) ORDER BY id FOR UPDATE", list(budget_ids))  # noqa: S608 (places only)
