"""`manage.py serve`: one supervisor per VAR_DIR, drained and stopped without a trace, started again unchanged."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.calls import Caller
from tests.flows.server import ROOT, Site, start_site


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site of this module's own, restarted by its tests in turn."""
    folder = tmp_path_factory.mktemp("served")
    with start_site(var_dir=folder) as site:
        yield site


def run_manage(*arguments: str, var_dir: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    settings = {**os.environ, "VAR_DIR": str(var_dir), **environment}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=240, check=False
    )


def processes_of(var_dir: Path) -> list[int]:
    """Return the processes whose environment names a VAR_DIR, and the inference workers among their children."""
    wanted, found, parents = f"VAR_DIR={var_dir}\0".encode(), set(), {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if wanted in (entry / "environ").read_bytes() + b"\0":
                found.add(int(entry.name))
        except (OSError, IndexError):  # It ended while we looked, or is not ours to read.
            continue
    found |= {pid for pid, parent in parents.items() if parent in found}
    return sorted(found)


def test_a_second_one_on_the_same_var_dir_is_refused(served: Site) -> None:
    second = run_manage("serve", var_dir=served.var_dir, PORT="1")

    assert second.returncode != 0
    assert f"Farebox already runs from {served.var_dir} (process {served.supervisor.pid})" in second.stderr
    assert Caller(served.port, None).get("/healthz").status == 200


def test_a_port_in_use_is_named_and_nothing_is_set_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run_manage("serve", "--setup", var_dir=tmp_path, PORT=str(port))

    assert refused.returncode != 0
    assert f"127.0.0.1:{port} is in use by another program" in refused.stderr
    assert not (tmp_path / "farebox.sqlite3").exists()


def test_a_killed_gateway_is_started_again_while_callers_wait(served: Site) -> None:
    served.kill_gateway()

    answer = Caller(served.port, served.key).predict()  # Waits in the listener's queue: it is not refused.

    assert answer.status == 200
    assert "The gateway ended (signal SIGKILL)" in served.log_text()


def test_a_second_setup_changes_nothing_and_tells_the_way_to_a_new_key(served: Site) -> None:
    with served.database() as database:
        before = list(database.iterdump())

    again = run_manage("setup", var_dir=served.var_dir)

    assert again.returncode == 0
    assert "fb_sk_" not in again.stdout
    with served.database() as database:
        # The gateway that runs meanwhile has a heartbeat, returns what it has on lease, and reports what it counted.
        by_the_gateway = {"billing_gatewayprocess", "billing_lease", "billing_budget", "marketplace_gatewayreport"}
        assert changed(before, list(database.iterdump())) <= by_the_gateway


def changed(before: list[str], after: list[str]) -> set[str]:
    """Return the tables in which two dumps differ."""
    return {match[1] for line in set(before) ^ set(after) if (match := re.match(r'INSERT INTO "(\w+)"', line))}


def test_nothing_of_a_fresh_site_can_be_read_by_others(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    folder.mkdir()
    folder.chmod(0o755)  # As `mkdir` in a shell makes it.

    made = run_manage("setup", var_dir=folder)

    assert made.returncode == 0, made.stderr
    found = [folder, *folder.rglob("*")]
    assert folder / "farebox.sqlite3" in found
    assert [path for path in found if path.lstat().st_mode & 0o077] == []


def test_issue_key_prints_a_key_that_works(served: Site) -> None:
    issued = run_manage("issue_key", "demo", "--name", "from a test", var_dir=served.var_dir)

    assert issued.returncode == 0, issued.stderr
    assert Caller(served.port, issued.stdout.strip()).predict().status == 200


def test_issue_key_refuses_an_unknown_organization(served: Site) -> None:
    issued = run_manage("issue_key", "nobody", var_dir=served.var_dir)

    assert issued.returncode != 0
    assert "There is no organization 'nobody'." in issued.stderr


def test_a_backup_of_the_running_site_restores_to_a_site_that_knows_its_keys_and_calls(served: Site, tmp_path: Path) -> None:
    caller = Caller(served.port, served.key)
    told = [caller.predict().headers["request-id"] for _ in range(20)]
    file, restored = tmp_path / "backup.tar.gz", tmp_path / "restored"

    written = run_manage("backup", str(file), var_dir=served.var_dir)
    restored.mkdir()
    subprocess.run(["tar", "-xzf", str(file), "-C", str(restored)], check=True)

    assert written.returncode == 0, written.stderr
    assert f"read from {served.var_dir}" in written.stdout
    assert file.stat().st_mode & 0o077 == 0
    program = (
        "from marketplace.models import ApiKey, RequestLog; from marketplace.credentials import digest;"
        "from billing.books import check_books; from marketplace.gateway.versions import load_model;"
        f"print(ApiKey.objects.filter(digest=digest('{served.key}')).count(), RequestLog.objects.filter(status=200).count(),"
        "len(check_books()), len(load_model('farebox/sentiment').versions))"
    )
    keys, calls, differences, versions = run_manage("shell", "-v", "0", "-c", program, var_dir=restored).stdout.split()
    assert (keys, differences, versions) == ("1", "0", "1")
    assert int(calls) >= len(told)


def test_a_backup_never_overwrites(served: Site, tmp_path: Path) -> None:
    (tmp_path / "backup.tar.gz").write_text("precious")

    refused = run_manage("backup", str(tmp_path / "backup.tar.gz"), var_dir=served.var_dir)

    assert refused.returncode != 0
    assert refused.stderr.strip().endswith(f"{tmp_path}/backup.tar.gz already exists; a backup is never overwritten.")
    assert (tmp_path / "backup.tar.gz").read_text() == "precious"


@pytest.mark.parametrize("database", ["missing", "without tables"])
def test_a_folder_without_a_site_is_not_backed_up(tmp_path: Path, database: str) -> None:
    file, folder = tmp_path / "backup.tar.gz", tmp_path / "mistyped"
    folder.mkdir()
    if database == "without tables":
        (folder / "farebox.sqlite3").touch()

    refused = run_manage("backup", str(file), var_dir=folder)

    assert refused.returncode != 0
    assert f"There is no site in {folder}" in refused.stderr
    assert not file.exists()
    assert (folder / "farebox.sqlite3").exists() == (database == "without tables")


def test_a_backup_that_fails_midway_leaves_no_file(served: Site, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    # No file may grow beyond 64 blocks, as on a full disk.
    command = ["sh", "-c", 'ulimit -f 64; exec "$0" manage.py backup "$1"', sys.executable, str(file)]
    settings = {**os.environ, "VAR_DIR": str(served.var_dir), "PYTHONDONTWRITEBYTECODE": "1"}

    failed = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=240, check=False)

    assert failed.returncode != 0
    assert "CommandError" in failed.stderr
    assert not file.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_calls_end_and_leaves_no_process(tmp_path: Path, number: int) -> None:
    with start_site(var_dir=tmp_path) as site:
        callers = [Caller(site.port, site.key) for _ in range(8)]
        assert all(caller.predict().status == 200 for caller in callers)
        running = processes_of(tmp_path)
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda caller=caller: answers.append(caller.predict({"input_data": ["word " * 300] * 64})))
            for caller in callers
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.3)

        site.supervisor.send_signal(number)
        status = site.supervisor.wait(40)
        for thread in threads:
            thread.join()

    assert len(running) >= 5  # Supervisor, gateway, beat, Celery's worker, inference workers.
    assert status == 0
    assert {answer.status for answer in answers} == {200}
    assert processes_of(tmp_path) == []
