"""Die at the n-th step: a child process counts what it does to the database and to the network, and is gone at one of them.

Nobody lists the points. Every statement that writes, every COMMIT and every HTTP request is one before it
and, where it has an effect of its own, one after it; so a step that is added to the code is covered by
that. Reads are none: to die before one is to die after the step before it. The child is forked, and dies
as `kill -9` has it: no `finally`, no rollback, no goodbye to anybody.
"""

import http.client
import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.backends.utils import CursorWrapper

from billing import providers
from billing.providers.fake.server import API_KEY
from billing.providers.stripe import StripeProvider
from tests.till import SECRET, TIMEOUT_S

_DIED: Final = 77
_FAILED: Final = 78
# No program here takes so many steps: a child that never ends its work would be killed for ever.
_MOST: Final = 2000
_PATIENCE_S: Final = 60
_READS: Final = {"before PRAGMA", "before SELECT", "before SHOW", "before SET"}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a child."""

    point: str  # Where it died, such as "before COMMIT"; empty: it came to its end.
    said: list[str]  # What it told the world before, in order.


def run_child(work: Callable[[Say], None], *, crash_at: int = 0, base_url: str = "") -> Run:
    """Run `work` in a process that dies at its step number `crash_at`; 0: at none.

    Args:
        work: Gets a function that tells us a line, as a reply would tell a caller.
        crash_at: Counted from 1.
        base_url: The fake Stripe's address, where it is asked; the child has connections of its own to it.
    """
    connections.close_all()  # No socket and no file lock is shared between the two.
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_the_child(work, writing, crash_at, base_url)
    os.close(writing)
    ender = threading.Timer(_PATIENCE_S, os.kill, (pid, signal.SIGKILL))  # Not reaped yet, so it is nobody else's.
    ender.start()
    with open(reading) as lines:  # noqa: PTH123 (a file descriptor)
        said = lines.read().splitlines()
    _, status = os.waitpid(pid, 0)
    ender.cancel()
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, _DIED}, f"The child ended with {code}:\n" + "\n".join(said)
    return Run(said[-1].removeprefix("DIED ") if code == _DIED else "", [line for line in said if not line.startswith("DIED ")])


def crash_everywhere(attempt: Callable[[int], Run]) -> list[str]:
    """Crash at the first step, the second, and so on, until a child comes to its end; return the points.

    Args:
        attempt: Makes a fresh situation, runs a child that crashes at the given step in it, recovers and checks.
    """
    points: list[str] = []
    while True:
        run = attempt(len(points) + 1)
        if not run.point:
            return points
        points.append(run.point)
        assert len(points) < _MOST


class _Steps:
    """Counts steps, in whatever thread they are taken."""

    def __init__(self, crash_at: int, writing: int) -> None:
        self._lock, self._taken, self._crash_at, self._writing = threading.Lock(), 0, crash_at, writing

    def take(self, name: str) -> None:
        """Count one, if it is no read; the process is gone if it is the one to die at."""
        if name in _READS:
            return
        with self._lock:
            self._taken += 1
            if self._taken == self._crash_at:
                os.write(self._writing, f"DIED {name}\n".encode())
                os._exit(_DIED)


def _be_the_child(work: Callable[[Say], None], writing: int, crash_at: int, base_url: str) -> None:
    code = _FAILED
    try:
        _count(_Steps(crash_at, writing))
        if base_url:
            _ask_anew(base_url)
        work(lambda line: _write(writing, line))
        code = 0
    except BaseException as error:  # noqa: BLE001 (pytest is the parent's)
        _write(writing, f"{type(error).__name__}: {error}")
    finally:
        os._exit(code)


def _write(writing: int, line: str) -> None:
    os.write(writing, f"{line}\n".encode())


def _ask_anew(base_url: str) -> None:
    """Ask the fake over connections of the child's own."""
    providers._instead.append(
        StripeProvider(api_key=API_KEY, webhook_secret=SECRET, timeout_s=TIMEOUT_S, base_url=base_url, name="fake", retries=0)
    )


def _count(steps: _Steps) -> None:
    """Have everything that leaves a trace outside this process be a step. Nobody has to undo it: the process ends."""
    _count_method(steps, CursorWrapper, "execute", lambda values: f"before {_verb(values[0])}")
    _count_method(steps, CursorWrapper, "executemany", lambda values: f"before {_verb(values[0])}")
    _count_method(steps, type(connections[DEFAULT_DB_ALIAS]), "_commit", lambda _: "before COMMIT", after=lambda _: "after COMMIT")
    _count_method(steps, http.client.HTTPConnection, "endheaders", lambda _: "before the request")
    _count_method(steps, http.client.HTTPConnection, "getresponse", lambda _: "request sent", after=lambda _: "before the answer is read")
    if connection.vendor == "sqlite":  # `billing.sql` goes to the driver beside Django's cursors.

        class Counting(sqlite3.Connection):
            """The driver's connection, whose statements are steps."""

            def execute(self, *values: Any) -> Any:
                steps.take(f"before {_verb(values[0])}")
                return super().execute(*values)

        connection.settings_dict["OPTIONS"] = {**connection.settings_dict["OPTIONS"], "factory": Counting}


def _count_method(
    steps: _Steps, owner: type, name: str, before: Callable[[Any], str], *, after: Callable[[Any], str] | None = None
) -> None:
    original = getattr(owner, name)

    def counted(self: Any, *values: Any, **named: Any) -> Any:
        steps.take(before(values))
        result = original(self, *values, **named)
        if after is not None:
            steps.take(after(values))
        return result

    setattr(owner, name, counted)


def _verb(statement: Any) -> str:
    words = str(statement).split()
    return " ".join(words[:3]).replace('"', "") if words[0] in {"INSERT", "UPDATE", "DELETE"} else words[0].upper()
