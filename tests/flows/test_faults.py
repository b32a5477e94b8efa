"""kill -9, a locked database, a full disk: nothing lost, nothing doubled, and it recovers by itself."""

import contextlib
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.calls import Caller
from tests.flows.crowd import Crowd, assert_books_fold, assert_nothing_was_lost_or_doubled, wait_until_nothing_is_held, wait_until_served
from tests.flows.server import Site, start_site

KILLS = 20


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
        assert_nothing_was_lost_or_doubled(database, told.answered)
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
