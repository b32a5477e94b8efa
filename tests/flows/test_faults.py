"""kill -9, a locked database, a full disk: nothing lost, nothing doubled, and it recovers by itself."""

import contextlib
import random
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from billing.ids import parse_public_id
from tests.flows.calls import Answer, Caller
from tests.flows.server import Site, start_site

KILLS = 20
CALLERS = 16


@dataclass
class Told:
    """What clients were told, from all threads."""

    answered: list[str] = field(default_factory=list)  # Request ids of 2xx answers.
    refused: dict[str, int] = field(default_factory=dict)  # Codes of typed refusals.
    unknown: int = 0  # Connections that ended without an answer.
    wrong: list[str] = field(default_factory=list)


class Crowd:
    """Callers that keep calling until told to stop, and note what each call came to."""

    def __init__(self, site: Site, *, seed: int) -> None:
        self.told = Told()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call, args=(site, seed + number)) for number in range(CALLERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, site: Site, seed: int) -> None:
        words = random.Random(seed)
        caller = Caller(site.port, site.key)
        while not self._stop.is_set():
            text = " ".join(["good"] * words.randint(1, 60))
            try:
                answer = caller.predict({"input_data": text})
            except OSError:
                self._note(None)
                time.sleep(0.05)
            except Exception as error:  # noqa: BLE001 (http.client's many ways to say that the server is gone)
                self._note(None, error)
                time.sleep(0.05)
            else:
                self._note(answer)

    def _note(self, answer: Answer | None, _: Exception | None = None) -> None:
        with self._lock:
            if answer is None:
                self.told.unknown += 1
            elif answer.status == 200:
                self.told.answered.append(answer.json()["id"])
            elif answer.status in {503, 504} and answer.code:
                self.told.refused[answer.code] = self.told.refused.get(answer.code, 0) + 1
            else:
                self.told.wrong.append(f"{answer.status} {answer.body[:200]!r}")


@pytest.fixture
def own_site() -> Iterator[Site]:
    """A site of the test's own, which it may break."""
    with start_site() as site:
        yield site


@pytest.mark.timeout(420)
def test_kill_9_at_20_random_instants_loses_and_doubles_nothing(own_site: Site) -> None:
    site, seed = own_site, random.randrange(10**6)
    print(f"seed {seed}")
    instants = random.Random(seed)
    with Crowd(site, seed=seed) as crowd:
        for number in range(KILLS):
            time.sleep(instants.uniform(0.1, 1.0))
            if number % 2:
                site.kill_worker(instants)
            else:
                site.kill_gateway()
                site.wait_until_healthy(timeout_s=60)
    told = crowd.told

    assert not told.wrong
    assert len(told.answered) > 100
    with site.database() as database:
        wait_until_nothing_is_held(database, timeout_s=60)
        ids = [parse_public_id("req", text) for text in told.answered]
        answered = {identity.hex for identity in ids if identity}
        events = {row[0] for row in database.execute("SELECT id FROM billing_usageevent")}
        refunded = {row[0] for row in database.execute("SELECT event_id FROM billing_usagerefund")}
        assert len(answered) == len(told.answered)  # No id was given twice.
        assert answered <= events, "an answered call has no usage event"
        assert events - refunded <= answered, "a call was charged, neither answered nor refunded"
        assert_books_fold(database)


def test_a_workers_death_is_invisible_or_a_typed_503(own_site: Site) -> None:
    instants = random.Random(7)
    with Crowd(own_site, seed=7) as crowd:
        for _ in range(6):
            time.sleep(0.4)
            own_site.kill_worker(instants)
        time.sleep(0.5)

    assert crowd.told.unknown == 0
    assert not crowd.told.wrong
    assert set(crowd.told.refused) <= {"worker_lost", "queue_full"}
    assert len(crowd.told.answered) > 50


def test_a_locked_database_refuses_before_anything_runs_and_recovers(own_site: Site) -> None:
    caller = Caller(own_site.port, own_site.key)
    assert caller.predict().status == 200
    with own_site.database() as database:
        database.execute("BEGIN IMMEDIATE")
        time.sleep(4.0)  # The next heartbeat waits 2 s for the lock, then the gate shuts.
        asked = time.monotonic()
        answers = [caller.predict() for _ in range(5)]
        took_s = time.monotonic() - asked
        database.execute("ROLLBACK")

    assert {(answer.status, answer.code) for answer in answers} == {(503, "storage_unavailable")}
    assert all("retry-after" in answer.headers for answer in answers)
    assert took_s < 1.5  # Nobody waited for the lock: the gate was shut before anything ran.
    wait_until_served(caller)
    with own_site.database() as database:
        assert database.execute("SELECT COUNT(*) FROM billing_usageevent").fetchone()[0] >= 2


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 96 MB of the test's own."""
    folder = Path(tempfile.mkdtemp(prefix="farebox-disk-"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", folder], capture_output=True, text=True, check=False)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"a small disk to fill needs root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)
    folder.rmdir()


def test_a_full_disk_refuses_before_anything_runs_and_recovers(small_disk: Path) -> None:
    with start_site(var_dir=small_disk) as site:
        caller = Caller(site.port, site.key)
        assert caller.predict().status == 200
        before = site.charged()

        ballast = small_disk / "ballast"
        fill(ballast)
        time.sleep(2.5)  # The heartbeat looks at the free space once a second.
        answers = [caller.predict() for _ in range(5)]

        assert {(answer.status, answer.code) for answer in answers} == {(503, "storage_unavailable")}
        assert site.charged() == before
        ballast.unlink()
        wait_until_served(caller)
        with site.database() as database:
            assert_books_fold(database)


def test_calls_under_way_while_the_disk_fills_are_charged_only_if_answered(small_disk: Path) -> None:
    with start_site(var_dir=small_disk) as site:
        ballast = small_disk / "ballast"
        with Crowd(site, seed=11) as crowd:
            time.sleep(1.0)
            fill(ballast)
            time.sleep(3.0)
            ballast.unlink()
            time.sleep(3.0)

        assert not crowd.told.wrong
        assert set(crowd.told.refused) <= {"storage_unavailable"}
        with site.database() as database:
            wait_until_nothing_is_held(database, timeout_s=60)
            events = database.execute("SELECT COUNT(*) FROM billing_usageevent").fetchone()[0]
            refunds = database.execute("SELECT COUNT(*) FROM billing_usagerefund").fetchone()[0]
            assert events - refunds == len(crowd.told.answered)
            assert_books_fold(database)


def fill(ballast: Path) -> None:
    """Write to a file until its disk is full."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 65536)


def wait_until_served(caller: Caller, *, timeout_s: float = 10) -> None:
    """Wait until a call is answered again."""
    deadline = time.monotonic() + timeout_s
    while caller.predict().status != 200:
        assert time.monotonic() < deadline, "the site did not recover by itself"
        time.sleep(0.2)


def wait_until_nothing_is_held(database: sqlite3.Connection, *, timeout_s: float) -> None:
    """Wait until no budget has money out on lease."""
    deadline = time.monotonic() + timeout_s
    while database.execute("SELECT COALESCE(SUM(leased_nanos), 0) FROM billing_budget").fetchone()[0]:
        assert time.monotonic() < deadline, "money is still held"
        time.sleep(0.5)


def assert_books_fold(database: sqlite3.Connection) -> None:
    """Balances are the fold of their entries: events less refunds = spent = rollups."""
    events = database.execute("SELECT COALESCE(SUM(charge_nanos), 0) FROM billing_usageevent").fetchone()[0]
    refunds = database.execute("SELECT COALESCE(SUM(charge_nanos), 0) FROM billing_usagerefund").fetchone()[0]
    rollups = database.execute("SELECT COALESCE(SUM(charge_nanos - refunded_nanos), 0) FROM billing_usagerollup").fetchone()[0]
    spent = database.execute("SELECT COALESCE(SUM(spent_nanos), 0) FROM billing_budget WHERE subject = 'account'").fetchone()[0]
    assert events - refunds == rollups == spent
