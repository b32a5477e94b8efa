"""One file that holds all of an embedded site: database, secrets and published models."""

import os
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import IO

from django.conf import settings

# What cannot be made anew. Mails, logs, the broker's queue and collected static files can.
_FOLDERS = ("secrets", "artifacts")


class NoSite(Exception):
    """There is nothing to back up in this VAR_DIR. Nothing was written."""


def write_backup(target: Path) -> int:
    """Write a gzipped tar of the running site; return its size in bytes.

    The database is copied by SQLite's own online backup, so that it is the state of one instant
    between two commits. It is read before the models are: a version in it always has its files.
    On PostgreSQL the database is left out: pg_dump is the tool for it.
    What fails midway leaves no target.

    Raises:
        NoSite: the database is missing, or was never set up.
        FileExistsError: there is such a file already; it is left alone.
    """
    if uses_sqlite() and not _is_set_up(_database()):
        message = f"There is no site in {settings.VAR_DIR}"
        raise NoSite(message)
    # Secrets are inside: nobody else may read it, from its first byte on.
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _write_archive(file)
    except BaseException:  # Ctrl-C, too: half a backup looks like a whole one.
        target.unlink()
        raise
    return target.stat().st_size


def _write_archive(file: IO[bytes]) -> None:
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        if uses_sqlite():
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "farebox.sqlite3"
                _copy_database(_database(), copy)
                archive.add(copy, arcname=copy.name)
        for name in _FOLDERS:
            source = settings.ARTIFACTS_DIR if name == "artifacts" else settings.VAR_DIR / name
            if source.exists():
                archive.add(source, arcname=name)


def uses_sqlite() -> bool:
    """Whether the site's database is a file that the backup holds."""
    return bool(settings.DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3")


def _database() -> Path:
    return Path(settings.DATABASES["default"]["NAME"]).resolve()


def _open(file: Path) -> sqlite3.Connection:
    """Open it read-only: a mistyped VAR_DIR must not be given an empty database."""
    return sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)


def _is_set_up(file: Path) -> bool:
    if not file.is_file():
        return False
    with closing(_open(file)) as live:
        return live.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'django_migrations'").fetchone() is not None


def _copy_database(source: Path, target: Path) -> None:
    with closing(_open(source)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)  # In one step: the site's writers wait for it, some ms per 10 MB.
        copy.execute("PRAGMA journal_mode=DELETE")  # One file, without a log beside it.
