"""A whole site, really started: `manage.py serve --setup` on a free port with its own VAR_DIR."""

import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from billing.ids import parse_public_id
from billing.money import to_decimal_string
from tests.flows.calls import Caller
from tests.flows.ready import ELSEWHERE, ROOT, copy_ready_site, copy_ready_static

START_TIMEOUT_S = 240


def free_port() -> int:
    """Return a port nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Site:
    """A running site and what a test may do to it."""

    port: int
    var_dir: Path
    supervisor: "subprocess.Popen[bytes]"
    key: str  # The demo organization's live key, with $5.00 of credit.
    database_url: str

    def log_text(self) -> str:
        """Return what the site printed so far, without the one line that shows the demo key."""
        text = (self.var_dir / "site.log").read_text()
        return text.replace(self.key, "(the key, as setup shows it)", 2)

    @contextmanager
    def database(self) -> Iterator[Any]:
        """Open the site's database beside it: SQLite's connection or psycopg's, each statement its own transaction.

        On both, `execute` takes a statement (and values for `?` on SQLite, `%s` on PostgreSQL),
        and ids are read as hexadecimal text.
        """
        opened = _open_postgresql(self.database_url) if self.is_on_postgresql else _open_sqlite(self.var_dir / "farebox.sqlite3")
        with closing(opened) as connection:
            yield connection

    @property
    def is_on_postgresql(self) -> bool:
        """Whether its database is a server."""
        return self.database_url.startswith("postgresql:")

    def query(self, sql: str, *parameters: object) -> Any:
        """Return the first column of the first row; `?` stands for a value."""
        with self.database() as database:
            return database.execute(sql.replace("?", "%s") if self.is_on_postgresql else sql, parameters).fetchone()[0]

    def charged(self) -> int:
        """Return what the demo organization was charged so far, net of refunds, in nanos."""
        account = "SELECT account_id FROM marketplace_organization WHERE slug = 'demo'"
        return int(
            self.query(
                f"SELECT COALESCE((SELECT SUM(charge_nanos) FROM billing_usageevent WHERE account_id = ({account})), 0)"
                f" - COALESCE((SELECT SUM(charge_nanos) FROM billing_usagerefund WHERE account_id = ({account})), 0)"
            )
        )

    def events_of(self, key_id: str) -> int:
        """Return how many usage events a key has; `key_id` as the REST API gives it."""
        identity = parse_public_id("key", key_id)
        return int(self.query("SELECT COUNT(*) FROM billing_usageevent WHERE source = ?", str(identity)))

    # ------------------------------------------------------------ Through the REST API

    def issue_key(self, *, name: str, monthly_cap_nanos: int | None = None, **settings: object) -> dict[str, Any]:
        """Make a key; return it with its `id` and `secret`."""
        body: dict[str, object] = {"name": name, **settings}
        if monthly_cap_nanos is not None:
            body["monthly_cap"] = to_decimal_string(monthly_cap_nanos)
        answer = Caller(self.port, self.key).post("/v1/keys", body)
        assert answer.status == 201, answer.body
        key: dict[str, Any] = answer.json()
        return key

    def revoke_key(self, key_id: str) -> None:
        """Revoke a key."""
        answer = Caller(self.port, self.key).delete(f"/v1/keys/{key_id}")
        assert answer.status in {200, 204}, answer.body

    # ------------------------------------------------------------ Faults

    def gateway_pid(self) -> int | None:
        """Return the gateway's process id, or None while there is none."""
        return next((pid for pid, line in _children(self.supervisor.pid).items() if "uvicorn" in line), None)

    def worker_pids(self) -> list[int]:
        """Return the inference workers' process ids."""
        gateway = self.gateway_pid()
        return [pid for pid, line in _children(gateway).items() if "inference.worker" in line] if gateway else []

    def kill_gateway(self) -> None:
        """kill -9 the gateway, if there is one."""
        if pid := self.gateway_pid():
            os.kill(pid, signal.SIGKILL)
            while pid == self.gateway_pid():
                time.sleep(0.01)

    def kill_celery(self) -> None:
        """kill -9 the Celery worker, if there is one."""
        for pid, line in _children(self.supervisor.pid).items():
            if "celery" in line and " worker " in line:
                os.kill(pid, signal.SIGKILL)

    def kill_worker(self, choose: random.Random) -> None:
        """kill -9 one inference worker, if there is one."""
        if pids := self.worker_pids():
            os.kill(choose.choice(pids), signal.SIGKILL)

    def wait_until_greeted(self, *, timeout_s: float = 10) -> None:
        """Wait until the supervisor, too, has seen that the site is healthy, and has printed the first call."""
        deadline = time.monotonic() + timeout_s
        while "Ctrl-C stops it." not in (text := (self.var_dir / "site.log").read_text()):
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        time.sleep(0.2)  # The lines behind it come in the same breath.

    def wait_until_healthy(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait for /readyz to answer 200."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if Caller(self.port, None).get("/readyz").status == 200:
                    return
            except OSError:
                pass
            assert self.supervisor.poll() is None, (self.var_dir / "site.log").read_text()
            assert time.monotonic() < deadline, (self.var_dir / "site.log").read_text()
            time.sleep(0.1)


def _open_sqlite(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=20, isolation_level=None)


def _open_postgresql(url: str) -> Any:
    import psycopg
    from psycopg.types.string import TextLoader

    class HexLoader(TextLoader):
        """Reads a UUID as SQLite's column holds it."""

        def load(self, data: Any) -> Any:
            return bytes(data).decode().replace("-", "")

    connection = psycopg.connect(url, autocommit=True)
    connection.adapters.register_loader("uuid", HexLoader)
    return connection


def _children(pid: int) -> Mapping[int, str]:
    """Return a process's children with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, IndexError):  # It ended while we looked.
            continue
    return found


@contextmanager
def start_site(*, var_dir: Path | None = None, key: str = "", fresh: bool = False, **environment: str) -> Iterator[Site]:
    """Set up and serve a site; stop it and remove its files at the end.

    It starts on a copy of what a setup made before, whose output its log begins with; on a database or
    with secrets of the test's own it is always set up from nothing.

    Args:
        var_dir: Where, if it is to stay. A site that is there already goes on.
        key: The demo organization's, where another site on the same DATABASE_URL was shown it before.
        fresh: Set it up from nothing, for tests of what a setup does and says.
        environment: Settings.
    """
    folder = var_dir or Path(tempfile.mkdtemp(prefix="farebox-site-"))
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if name not in {"ARTIFACTS_DIR", "DATABASE_URL"}}
    settings = {
        **inherited,
        "VAR_DIR": str(folder),
        "PORT": str(port),
        "HOST": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
        "LIVE_KEY_RATE_PER_MINUTE": "10000000",
        "ORGANIZATION_RATE_PER_MINUTE": "10000000",
        **environment,
    }
    printed = ""
    if not (folder / "static").exists():
        if fresh or ELSEWHERE & environment.keys():
            copy_ready_static(folder)
        else:
            printed = copy_ready_site(folder)
    with (folder / "site.log").open("wb") as log:
        log.write(printed.encode())
        log.flush()
        supervisor = subprocess.Popen([sys.executable, "manage.py", "serve", "--setup"], cwd=ROOT, env=settings, stdout=log, stderr=log)
        try:
            site = Site(port=port, var_dir=folder, supervisor=supervisor, key=key, database_url=environment.get("DATABASE_URL", ""))
            site.wait_until_healthy()
            site.wait_until_greeted()
            site.key = key or _find_key((folder / "site.log").read_text())
            yield site
        finally:
            supervisor.terminate()
            supervisor.wait(60)
            if var_dir is None:
                shutil.rmtree(folder, ignore_errors=True)


def _find_key(printed: str) -> str:
    match = re.search(r"fb_sk_live_[0-9A-Za-z]{38}", printed)
    assert match, printed
    return match[0]
