"""SQL that SQLite and PostgreSQL both take: values, the clock, many rows with few statements.

The commit thread uses this instead of the ORM, which costs 100 us and more per saved row.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import chain
from typing import Any, Final
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.backends.utils import CursorWrapper
from django.db.models import CharField, TextField
from django.db.models.functions import Cast, Substr

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


def open_cursor() -> CursorWrapper:
    """Return this thread's cursor for the functions below, to be dropped, not closed.

    On SQLite they go past it to the driver, so it is a name for the connection: Django takes 25 us to open one.
    """
    if is_sqlite():
        return CursorWrapper(None, connections[DEFAULT_DB_ALIAS])
    return connection.cursor()


def execute(cursor: CursorWrapper, statement: str, values: Sequence[Any]) -> int:
    """Run a statement with `%s` places; return how many rows it touched.

    On SQLite it goes to the driver with the statement already in its form: Django's cursor looks
    for places with a regular expression each time, 40 us for an INSERT of 16 rows.
    """
    if is_sqlite():
        database = cursor.db  # Not `connections[...]`, which looks for the thread's own: 5 us each time.
        with database.wrap_database_errors:
            return int(database.connection.execute(_for_sqlite(statement), values).rowcount)
    cursor.execute(statement, values)
    return int(cursor.rowcount)


def fetch(cursor: CursorWrapper, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run a statement with `%s` places; return all its rows as the driver gives them."""
    if is_sqlite():
        database = cursor.db
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
        values = list(chain.from_iterable(rows if chunk == len(rows) else rows[start : start + chunk]))
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
    return moment.isoformat(" ")[:-6]  # As Django stores it, less the offset +00:00: other forms would not compare.


def uuid_value(value: UUID) -> str:
    """Return a UUID as 32 hexadecimal digits: SQLite's column holds that, PostgreSQL's parses it."""
    return value.hex


def uuid_values(values: Iterable[UUID | None]) -> list[str | None]:
    """Return UUIDs as `uuid_value` does, one after the other; neighbours that are one object are worked out once.

    Calls of a group mostly share their account, price and key, as the same objects in memory.
    """
    texts: list[str | None] = []
    last, text = None, None
    for value in values:
        if value is not last:
            last, text = value, None if value is None else value.hex
        texts.append(text)
    return texts


def database_now() -> str:
    """Return the SQL for the database's own clock, for use in a statement with parameters."""
    if not is_sqlite():
        return "clock_timestamp()"
    # As Django stores moments on SQLite: text, to the millisecond here.
    return "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')"


def as_text(column: str, like: str) -> Substr:
    """Return the beginning of a moment as text, as long as an example of it, such as "2026-11".

    The same on both databases; Django's Trunc functions call Python for every row on SQLite.
    """
    return Substr(Cast(column, TextField()), 1, len(like), output_field=CharField())


def lock_budgets(cursor: CursorWrapper, budget_ids: Sequence[int]) -> None:
    """Lock budget rows in ascending order: two processes locking in different orders would deadlock.

    SQLite has one writer at a time, so there is nothing to do.
    """
    if budget_ids and not is_sqlite():
        places = ", ".join(["%s"] * len(budget_ids))
        cursor.execute(f"SELECT id FROM billing_budget WHERE id IN ({places}) ORDER BY id FOR UPDATE", list(budget_ids))  # noqa: S608 (places only)
