"""What a process can still do once it has entered the sandbox: run, and talk over its one socket."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inference import landlock
from marketplace.proving.intruder import enter_sandbox

ROOT = Path(__file__).resolve().parents[2]
is_root = os.geteuid() == 0
has_landlock = landlock.find_abi() is not None
needs_landlock = pytest.mark.skipif(not has_landlock, reason="this kernel has no Landlock")
needs_root = pytest.mark.skipif(not is_root, reason="only root can become somebody else")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return enter_sandbox(tmp_path_factory.mktemp("scratch"))


def test_a_sandboxed_process_reaches_no_file(outcome: dict[str, Any]) -> None:
    if not (outcome["report"]["landlock_abi"] or outcome["report"]["empty_root"]):
        pytest.skip("this kernel has no Landlock, and we are not root")
    attempts = ["read a file", "read a relative file", "read a file above", "list the root", "write a file"]
    for attempt in [*attempts, "write a file here", "make a folder"]:
        assert outcome[attempt] in {"PermissionError", "FileNotFoundError"}, attempt


def test_a_sandboxed_process_makes_no_connection(outcome: dict[str, Any]) -> None:
    if not ((outcome["report"]["landlock_abi"] or 0) >= 4 or outcome["report"]["own_network"]):
        pytest.skip("this kernel's Landlock knows no network, and we are not root")
    assert outcome["connect"] in {"PermissionError", "OSError"}


def test_a_sandboxed_process_inherits_nothing_and_has_no_environment(outcome: dict[str, Any]) -> None:
    assert outcome["use an inherited descriptor"] == "OSError"
    assert outcome["environment"] == {}


def test_a_sandboxed_process_starts_no_program_and_takes_no_more_memory_than_it_may(outcome: dict[str, Any]) -> None:
    assert outcome["start a program"] != "done"
    assert outcome["map memory"] == "OSError"
    limits = outcome["report"]["limits"]
    assert (limits["core"], limits["fsize"], limits["as"], limits["nproc"]) == (0, 0, 2**30, 0)


def test_a_sandboxed_process_gains_no_rights_shows_no_memory_and_leaves_the_terminal_alone(outcome: dict[str, Any]) -> None:
    assert (outcome["no_new_privs"], outcome["dumpable"]) == (1, 0)
    assert outcome["leads its session"]
    assert outcome["interrupt"]
    assert outcome["report"]["threads"] == 1


def test_a_sandboxed_process_still_computes(outcome: dict[str, Any]) -> None:
    assert outcome["computes"] == 3


@needs_root
def test_root_becomes_somebody_else_who_starts_no_thread_and_no_process(outcome: dict[str, Any]) -> None:
    report = outcome["report"]
    assert report["own_uid"] == 61_184 + 3
    assert report["empty_root"]
    assert outcome["start a process"] != "done"
    assert outcome["start a thread"] != "done"
    assert outcome["signal the parent"] == "PermissionError"


@needs_root
@needs_landlock
def test_without_root_landlock_alone_keeps_files_and_connections_out_of_reach(tmp_path: Path) -> None:
    outcome = enter_sandbox(tmp_path, uid=61_000)

    report = outcome["report"]
    assert (report["own_uid"], report["empty_root"], report["own_network"]) == (None, False, False)
    for attempt in ("read a file", "read a relative file", "read a file above", "list the root", "write a file"):
        assert outcome[attempt] in {"PermissionError", "FileNotFoundError"}, attempt
    if report["landlock_abi"] >= 4:
        assert outcome["connect"] == "PermissionError"
    assert outcome["start a program"] == "PermissionError"
    assert outcome["start a process"] != "done"


@needs_landlock
def test_with_a_gpu_libraries_and_devices_stay_in_reach_and_all_else_stays_closed(tmp_path: Path) -> None:
    outcome = enter_sandbox(tmp_path, device="cuda")

    assert outcome["read a library"] == outcome["read a system file"] == outcome["open a device"] == "done"
    assert outcome["start a thread"] == "done"  # CUDA starts some.
    assert outcome["read a file"] == outcome["list the root"] == outcome["open the disk's folder"] == "PermissionError"
    assert outcome["write a file"] in {"PermissionError", "OSError"}
    assert outcome["make a folder"] == "PermissionError"
    assert "as" not in outcome["report"]["limits"]
    assert outcome["report"]["limits"]["nofile"] == 1_024
    assert outcome["environment"] == {"CUDA_VISIBLE_DEVICES": "0"}


@needs_root
def test_with_a_gpu_root_becomes_somebody_else_who_reaches_libraries_and_devices(tmp_path: Path) -> None:
    report = enter_sandbox(tmp_path, device="cuda")["report"]

    assert report["own_uid"] in {61_184 + 3, None}  # None: this environment's libraries lie where only root may read.
    assert not report["empty_root"]  # The driver's files would be out of reach.


@needs_root
def test_root_does_not_become_who_would_not_reach_the_gpu(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = f"import os; from pathlib import Path; from inference import sandbox; print(sandbox._take_uid(61_190, reaching=[Path({str(closed)!r})]), os.getuid(), os.geteuid(), os.getegid())"

    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)

    assert told.stdout == "None 0 0 0\n"


def test_a_kernel_without_landlock_is_reported_and_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_syscall", lambda *_: -1)  # ENOSYS, EOPNOTSUPP: the same answer.

    assert landlock.find_abi() is None


def test_a_process_whose_parent_is_already_gone_does_not_live_on() -> None:
    program = "import os\nfrom inference import sandbox\nsandbox.detach(parent_pid=1_000_000_000)\nprint('alive')"

    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)

    assert (ended.returncode, ended.stdout) == (1, "")
