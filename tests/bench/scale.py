"""Ten million usage events over 1,000 accounts: what pages, the month's close and the books take then.

`python -m tests.bench.scale [--events 10000000] [--accounts 1000] [--postgresql] [--folder /somewhere]` fills a database
of its own by bulk SQL (some 15 GB) and prints each figure. With --folder it is kept and found again, else it goes at the
end. The clock stands at the end of the month, so that the last hour and day are full ones.
"""

import argparse
import cProfile
import os
import pstats
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from tests.bench.filling import EMAIL, NOW, fill
from tests.bench.processes import tree_cpu_s

CLOSING = datetime(2026, 12, 1, 2, tzinfo=UTC)
ROUNDS = 20
PARTS = ("pages", "books", "close")
PAGES = (
    "/",
    "/dashboard/",
    "/dashboard/?period=30d",
    "/dashboard/live/",
    "/usage/",
    "/usage/?by=key&period=30d",
    "/usage/?by=day&period=90d",
    "/usage/?format=csv",
    "/requests/",
    "/requests/?status=failed",
    "/requests/?model=house/model-1",
    "/invoices/",
    "/invoices/current/",
    "/invoices/current/calls/",
    "/billing/",
    "/budgets/",
    "/plans/",
    "/keys/",
    "/revenue/",
    "/admin/",
    "/admin/money/",
)
ADDRESSES = (
    "/v1/usage",
    "/v1/usage?group_by=model",
    "/v1/usage?group_by=key",
    "/v1/usage?group_by=hour",
    "/v1/requests",
    "/v1/balance",
    "/v1/invoices/upcoming",
)


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--postgresql", action="store_true", help="on a server started for it, instead of SQLite")
    parser.add_argument("--folder", type=Path, help="where the database is kept; one that is there already is measured again")
    parser.add_argument("--parts", default=",".join(PARTS), help="what is measured; the month is closed for good")
    parser.add_argument("--only", default="", help="of the pages, those whose address has this in it")
    parser.add_argument("--profile", action="store_true", help="also where the time goes")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = asked.folder
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="farebox-scale-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "static").mkdir(parents=True, exist_ok=True)
        if asked.postgresql:
            stack.enter_context(_server(folder / "postgresql"))
        os.environ.update(VAR_DIR=str(folder), DJANGO_SETTINGS_MODULE="marketplace.settings", LOG_LEVEL="WARNING")
        import django

        django.setup()
        _run(asked, folder)


@contextmanager
def _server(folder: Path) -> Iterator[None]:
    """Run a PostgreSQL whose files are kept, and have the settings name its database."""
    from tests.postgresql import PostgresServer

    is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    server = PostgresServer(folder, durable=True)
    server.start()
    try:
        os.environ["DATABASE_URL"] = server.make_database("farebox") if is_new else server.url("farebox")
        yield
    finally:
        server.stop()


def _run(asked: argparse.Namespace, folder: Path) -> None:
    from django.conf import settings as site
    from django.core.management import call_command
    from django.db import connection

    site.STORAGES = {**site.STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
    site.ALLOWED_HOSTS = ["*"]
    call_command("migrate", verbosity=0)
    print(f"{connection.vendor}: {asked.events:,} events over {asked.accounts:,} accounts", flush=True)
    kept = folder / "key"
    if not kept.exists():
        with timed("fill"):
            secret = fill(asked.events, asked.accounts)
        kept.touch(mode=0o600)
        kept.write_text(secret)
    parts = asked.parts.split(",")
    if "pages" in parts:
        with mock.patch("django.utils.timezone.now", return_value=NOW):
            _measure_pages(kept.read_text(), only=asked.only, is_profiled=asked.profile)
    if "books" in parts:
        _measure_books()
    if "close" in parts:
        _measure_close(is_profiled=asked.profile)
        _measure_books()


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a block took, by the clock and in CPU of this process and of the database's server."""
    began, cpu, server = time.perf_counter(), time.process_time(), _server_cpu_s()
    yield
    ours, theirs = time.process_time() - cpu, _server_cpu_s() - server
    print(f"{what}: {time.perf_counter() - began:.1f} s (CPU: {ours:.1f} s ours, {theirs:.1f} s of the server)", flush=True)


def _server_cpu_s() -> float:
    """Return what the database's server has used so far, with all its processes; SQLite has none."""
    from django.db import connection

    if connection.vendor == "sqlite":
        return 0.0
    connection.ensure_connection()
    backend = int(connection.connection.info.backend_pid)
    postmaster = int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
    return tree_cpu_s(postmaster)


def _measure_pages(key: str, *, only: str, is_profiled: bool) -> None:
    from django.test import Client

    from marketplace.models import User

    person = Client()
    person.force_login(User.objects.get(email=EMAIL))
    program = Client(headers={"authorization": f"Bearer {key}"})
    for client, paths in ((person, PAGES), (program, ADDRESSES)):
        for path in paths:
            if only in path:
                _latency(path, lambda client=client, path=path: client.get(path), is_profiled=is_profiled)


def _latency(what: str, ask: Callable[[], Any], *, is_profiled: bool) -> None:
    from django.db import connection, reset_queries
    from django.test.utils import CaptureQueriesContext

    ask()  # What is made once, such as compiled templates.
    took, cpu, server = [], [], _server_cpu_s()
    for _ in range(ROUNDS):
        began, used = time.perf_counter(), time.process_time()
        reply = ask()
        took.append((time.perf_counter() - began) * 1000)
        cpu.append((time.process_time() - used) * 1000)
    server = (_server_cpu_s() - server) / ROUNDS * 1000
    with CaptureQueriesContext(connection) as queries:
        ask()
    spent = sum(float(query["time"]) for query in queries) * 1000
    print(
        f"GET {what}: {reply.status_code}, {median(cpu):.1f} ms CPU and {server:.1f} ms of the server, by the clock median {median(took):.1f} ms, longest {max(took):.1f} ms; "
        f"{len(queries)} queries {spent:.0f} ms",
        flush=True,
    )
    if is_profiled:
        for query in sorted(queries, key=lambda query: -float(query["time"]))[:4]:
            print(f"    {query['time']} s: {query['sql'][:600]}")
        _profile(ask)
    reset_queries()


def _profile(ask: Callable[[], Any]) -> None:
    profile = cProfile.Profile()
    profile.runcall(ask)
    pstats.Stats(profile).strip_dirs().sort_stats("cumulative").print_stats(45)


def _measure_close(*, is_profiled: bool) -> None:
    from billing.invoicing import close_periods

    def close() -> None:
        print(f"  {close_periods(now=CLOSING):,} invoices", flush=True)

    with timed("close the month"):
        _profile(close) if is_profiled else close()


def _measure_books() -> None:
    from billing import books

    with timed("check the books whole"):
        print(f"  {len(books.check_books())} differences", flush=True)


if __name__ == "__main__":
    sys.exit(main())
