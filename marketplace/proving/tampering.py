"""Change the database as who has its password could: around the triggers that protect facts."""

from typing import Any

from django.db import connection


def behind_our_back(statement: str) -> None:
    """Run statements, separated by semicolons, with the triggers off and foreign keys unchecked; each must change a row."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = replica")
            _execute_each(cursor, statement)
            cursor.execute("SET session_replication_role = origin")
            return
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = cursor.fetchall()
        cursor.execute("PRAGMA foreign_keys = OFF")  # Nothing inside of a transaction, where the next line is what counts.
        cursor.execute("PRAGMA defer_foreign_keys = ON")
        for name, _ in triggers:
            cursor.execute(f"DROP TRIGGER {name}")
        _execute_each(cursor, statement)
        for _, sql in triggers:
            cursor.execute(sql)
        cursor.execute("PRAGMA foreign_keys = ON")


def _execute_each(cursor: Any, statement: str) -> None:
    for one in statement.split(";"):
        cursor.execute(one)
        assert cursor.rowcount > 0, one
