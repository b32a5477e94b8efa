"""Serve the whole site from one process: lock, listen, set up, supervise."""

import errno
import fcntl
import os
from collections.abc import Callable
from typing import IO, Any, NoReturn

from django.conf import settings
from django.db import connections

from marketplace.greeting import describe_ready, describe_started
from marketplace.installation import install, make_var_dir
from marketplace.logs import render_line
from marketplace.programs import BACKLOG, site_programs
from marketplace.supervisor import become_supervisor, open_listener


class CannotServe(Exception):
    """The site cannot be served here and now. Nothing was started or changed."""


def serve(*, setup: bool, say: Callable[[str], Any]) -> NoReturn:
    """Become the site's supervisor, which runs until a signal ends it.

    Raises:
        CannotServe: another one runs from this VAR_DIR, or the address cannot be had.
    """
    as_json = settings.LOG_FORMAT == "json"

    def tell(line: str) -> None:
        say(render_line(line, logger="farebox.serve") if as_json else line)

    lock = _lock_site()
    try:
        listener = open_listener(settings.HOST, settings.PORT, backlog=BACKLOG)
    except OSError as error:
        raise CannotServe(_explain(error)) from error
    key: str | None = None
    if setup:
        started = install(say=tell)
        key = started.demo_key
        for line in describe_started(started):
            tell(line)
    tell("Starting ...")
    connections.close_all()
    become_supervisor(
        site_programs(listener_fd=listener.fileno()),
        listener=listener,
        lock=lock.fileno(),
        ready_lines=describe_ready(key=key),
        as_json=as_json,
    )


def _lock_site() -> IO[str]:
    """Take this VAR_DIR's lock: two supervisors over one broker and database would do all work twice."""
    make_var_dir()
    # Opened for appending, so that a refused second one does not wipe out the first one's number.
    lock = (settings.VAR_DIR / "serve.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with lock:
            lock.seek(0)
            message = f"Farebox already runs from {settings.VAR_DIR} (process {lock.read().strip()}). Stop it, or set VAR_DIR."
        raise CannotServe(message) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _explain(error: OSError) -> str:
    where = f"{settings.HOST}:{settings.PORT}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program. Choose another port: PORT={settings.PORT + 1} make run"
    return f"Cannot listen on {where}: {error.strerror or error}."
