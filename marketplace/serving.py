"""Serve the whole site from one process: lock, listen, set up, supervise."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import connections

from marketplace.greeting import describe_ready, describe_started
from marketplace.installation import install
from marketplace.programs import BACKLOG, site_programs
from marketplace.supervisor import Supervisor, open_listener


class CannotServe(Exception):
    """The site cannot be served here and now. Nothing was started or changed."""


def serve(*, setup: bool, say: Callable[[str], Any]) -> int:
    """Run the site until a signal ends it; return the exit status.

    Raises:
        CannotServe: another one runs from this VAR_DIR, or the address cannot be had.
    """
    with _only_one():
        try:
            listener = open_listener(settings.HOST, settings.PORT, backlog=BACKLOG)
        except OSError as error:
            raise CannotServe(_explain(error)) from error
        key: str | None = None
        if setup:
            started = install(say=say)
            key = started.demo_key
            for line in describe_started(started):
                say(line)
        connections.close_all()  # From here on only the programs touch the database.
        say("Starting ...")

        def greet(seconds: float) -> None:
            for line in describe_ready(seconds=seconds, key=key):
                say(line)

        return Supervisor(site_programs(listener_fd=listener.fileno()), listener=listener, say=say, on_ready=greet).run()


@contextmanager
def _only_one() -> Iterator[None]:
    """Hold this VAR_DIR's lock: two supervisors over one broker and database would do all work twice."""
    settings.VAR_DIR.mkdir(parents=True, exist_ok=True)
    # Opened for appending, so that a refused second one does not wipe out the first one's number.
    with (settings.VAR_DIR / "serve.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            message = f"Farebox already runs from {settings.VAR_DIR} (process {lock.read().strip()}). Stop it, or set VAR_DIR."
            raise CannotServe(message) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _explain(error: OSError) -> str:
    where = f"{settings.HOST}:{settings.PORT}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program. Choose another port: PORT={settings.PORT + 1} make run"
    return f"Cannot listen on {where}: {error.strerror or error}."
