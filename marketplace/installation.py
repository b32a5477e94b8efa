"""Bring a site's own files and tables up to date: migrations, static files, starter data."""

import contextlib
import hashlib
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from marketplace.celery import make_broker_folders
from marketplace.starter import Started, start_site

Say = Callable[[str], Any]

# Of packages that we use otherwise: the other viewer of OpenAPI, and DRF's own pages. Half of the compressing.
_UNUSED_STATIC: Final = ("redoc", "rest_framework")


def install(*, say: Say) -> Started:
    """Do what is missing, telling each thing done; return what only now can be shown.

    On a site that is up to date this takes about a second and changes nothing.
    """
    migrate(say=say)
    collect_static(say=say)
    make_broker_folders()
    return start_site()


def make_var_dir() -> None:
    """Make VAR_DIR, and close it to others where an older version or a shell left it open."""
    settings.VAR_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_IMODE(settings.VAR_DIR.stat().st_mode) & 0o077:
        # A volume mounted from elsewhere may be another user's: its owner decides, and our files in it are closed.
        with contextlib.suppress(PermissionError):
            settings.VAR_DIR.chmod(0o700)


def migrate(*, say: Say) -> None:
    """Apply the migrations that the database lacks."""
    make_var_dir()
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not plan:
        return
    say(f"Database: applying {len(plan)} migrations ...")
    began = time.monotonic()
    call_command("migrate", interactive=False, verbosity=0)
    say(f"Database: up to date ({time.monotonic() - began:.1f} s).")


def collect_static(*, say: Say) -> None:
    """Collect the static files where one has changed since the last time.

    Names, sizes and times of the sources are compared with a note beside the result: the
    comparison takes tens of milliseconds, collecting and compressing takes seconds.
    """
    root = Path(settings.STATIC_ROOT)
    note = root / ".sources"
    sources = _fingerprint_sources()
    if note.exists() and note.read_text() == sources:
        return
    say("Static files: collecting and compressing ...")
    began = time.monotonic()
    # Without --clear: pages that are open still ask for the files of before.
    call_command("collectstatic", interactive=False, verbosity=0, ignore_patterns=list(_UNUSED_STATIC))
    note.write_text(sources)
    say(f"Static files: ready ({time.monotonic() - began:.1f} s).")


def _fingerprint_sources() -> str:
    lines = []
    for finder in get_finders():
        for name, storage in finder.list(ignore_patterns=None):
            status = Path(storage.path(name)).stat()
            lines.append(f"{name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
