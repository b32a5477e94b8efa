"""How the database is connected to: read by the settings."""

from typing import Any

import dj_database_url


def database_options(url: str) -> dict[str, Any]:
    """Return Django's DATABASES for `postgresql://user:password@host/name` or `sqlite:////absolute/path`."""
    database: dict[str, Any] = {**dj_database_url.parse(url, conn_max_age=600)}
    if database["ENGINE"] == "django.db.backends.sqlite3":
        database["OPTIONS"] = {
            # BEGIN IMMEDIATE: a transaction that will write takes its lock at once and cannot
            # fail half-way with "database is locked".
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,  # Seconds to wait for the writer before us.
            # FULL: in a simulated power cut NORMAL kept 0 of 200 acknowledged commits, FULL all.
            # temp_store: a statement that inserts many rows notes how to undo itself, by default in a file each time.
            "init_command": (
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY;"
            ),
            "cached_statements": 512,  # A group of calls is one INSERT a table, and each size of group is a statement.
        }
    else:
        database["CONN_HEALTH_CHECKS"] = True
        database["OPTIONS"] = {
            **database.get("OPTIONS", {}),  # What DATABASE_URL asks for, such as sslmode.
            # Milliseconds. A stuck lock is bounded; money waits for the disk.
            "options": "-c statement_timeout=5000 -c lock_timeout=2000 -c idle_in_transaction_session_timeout=10000 -c synchronous_commit=on",
        }
    return {"default": database}
