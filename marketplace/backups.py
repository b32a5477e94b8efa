"""One file that holds all of an embedded site: database, secrets and published models."""

import os
import sqlite3
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

from django.conf import settings

# What cannot be made anew. Mails, logs, the broker's queue and collected static files can.
_FOLDERS = ("secrets", "artifacts")


def write_backup(target: Path) -> int:
    """Write a gzipped tar of the running site; return its size in bytes.

    The database is copied by SQLite's own online backup, so that it is the state of one instant
    between two commits. It is read before the models are: a version in it always has its files.
    On PostgreSQL the database is left out: pg_dump is the tool for it.

    Raises:
        FileExistsError: there is such a file already; it is left alone.
    """
    # Secrets are inside: nobody else may read it, from its first byte on.
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        if uses_sqlite():
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "farebox.sqlite3"
                _copy_database(Path(settings.DATABASES["default"]["NAME"]), copy)
                archive.add(copy, arcname=copy.name)
        for name in _FOLDERS:
            source = settings.ARTIFACTS_DIR if name == "artifacts" else settings.VAR_DIR / name
            if source.exists():
                archive.add(source, arcname=name)
    return target.stat().st_size


def uses_sqlite() -> bool:
    """Whether the site's database is a file that the backup holds."""
    return bool(settings.DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3")


def _copy_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)  # In one step: the site's writers wait for it, some ms per 10 MB.
        copy.execute("PRAGMA journal_mode=DELETE")  # One file, without a log beside it.
