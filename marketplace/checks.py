"""System checks: what would make this site lose money or calls is said by `check --deploy`."""

import sqlite3
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning, register  # noqa: A004 (Django's name)

# Below it two connections can corrupt the write-ahead log in a rare race (sqlite.org/wal.html, "WAL-reset bug").
_SAFE_SQLITE = (3, 51, 3)


@register(deploy=True)
def check_sqlite_version(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001 (Django's signature)
    """Warn of an SQLite with the WAL-reset bug; the remedy is a newer SQLite, or PostgreSQL."""
    if not has_wal_reset_bug():
        return []
    hint = "Use a Python built with SQLite 3.51.3 or newer, or set DATABASE_URL to PostgreSQL, before you take real money."
    return [Warning(f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug.", hint=hint, id="farebox.W001")]


def has_wal_reset_bug() -> bool:
    """Whether the site runs on an SQLite that has the bug."""
    on_sqlite: bool = settings.DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3"
    return on_sqlite and sqlite3.sqlite_version_info < _SAFE_SQLITE
