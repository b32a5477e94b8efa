"""`manage.py prove` leaves the reader's data alone and nothing behind, and its exit status tells how it went."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from marketplace.management.commands import prove
from marketplace.proving.promises import PROMISES
from marketplace.proving.rows import Row, Verdict
from tests.flows.server import ROOT


def row_of(number: int, verdict: Verdict) -> Row:
    return Row(number, "says", "tried", "seen", verdict, 1.24)


def outcome_of(monkeypatch: pytest.MonkeyPatch, verdicts: dict[int, Verdict], *arguments: str) -> tuple[int, str]:
    """Run the command over made-up rows; return its exit status and what it printed."""

    def made_up(numbers: Iterable[int]) -> Iterator[Row]:
        yield from (row_of(number, verdicts[number]) for number in numbers if number in verdicts)

    monkeypatch.setattr(prove, "try_promises", made_up)
    printed = io.StringIO()
    try:
        call_command("prove", *arguments, stdout=printed)
    except SystemExit as ended:
        return int(str(ended.code)), printed.getvalue()
    return 0, printed.getvalue()


KEPT, FAILED, UNTRIED = Verdict.KEPT, Verdict.FAILED, Verdict.UNTRIED


@pytest.mark.parametrize(
    ("verdicts", "status", "told"),
    [
        ({2: KEPT, 11: KEPT}, 0, "2 kept, 0 FAILED, 0 not tried"),
        ({2: UNTRIED, 11: KEPT}, 2, "1 kept, 0 FAILED, 1 not tried"),
        ({2: UNTRIED, 11: FAILED}, 1, "0 kept, 1 FAILED, 1 not tried"),
    ],
)
def test_the_exit_status_tells_how_it_went(monkeypatch: pytest.MonkeyPatch, verdicts: dict[int, Verdict], status: int, told: str) -> None:
    ended, printed = outcome_of(monkeypatch, verdicts)

    assert ended == status
    assert told in printed
    assert f" 2 | says | tried | seen | {verdicts[2]} (1 s)" in printed


def test_as_json_it_prints_one_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ended, printed = outcome_of(monkeypatch, {2: KEPT, 11: FAILED}, "--json", "--only", "11")

    assert ended == 1
    row = {"number": 11, "promise": "says", "tried": "tried", "seen": "seen", "verdict": "FAILED", "seconds": 1.2}
    assert json.loads(printed) == {"rows": [row], "counts": {"kept": 0, "FAILED": 1, "not tried": 0}}
    assert "Making a site" in capsys.readouterr().err


def test_an_unknown_promise_is_refused() -> None:
    with pytest.raises(CommandError, match="no promise 13"):
        call_command("prove", "--only", "13")


# ---------------------------------------------------------------- Really


def environment_of(folder: Path) -> dict[str, str]:
    """A reader's surroundings: a site with data, and settings that name a database which nobody answers for."""
    (folder / "var").mkdir(mode=0o700)
    (folder / "var" / "farebox.sqlite3").write_text("my data")
    (folder / "tmp").mkdir()
    return {
        **os.environ,
        "VAR_DIR": str(folder / "var"),
        "TMPDIR": str(folder / "tmp"),
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "STRIPE_API_KEY": "sk_live_of_the_reader",
        "STRIPE_WEBHOOK_SECRET": "whsec_x",
    }


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "manage.py", "prove", *arguments],
        cwd=ROOT,
        env=environment_of(folder),
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_it_proves_beside_a_site_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with start(tmp_path, "--only", "11") as command:
        printed, _ = command.communicate(timeout=240)

    assert command.returncode == 0, printed
    assert printed.startswith(f"11 | {PROMISES[11].says} | ")
    assert (tmp_path / "var" / "farebox.sqlite3").read_text() == "my data"
    assert {path.name for path in (tmp_path / "var").iterdir()} <= {"farebox.sqlite3", "secrets"}
    assert not list((tmp_path / "tmp").iterdir())


def children_of(folder: Path) -> list[int]:
    """Return the processes that try something in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in line and b"proving.child" in line:
            found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_killed_it_leaves_no_process_behind(tmp_path: Path) -> None:
    with start(tmp_path, "--only", "2") as command:
        deadline = time.monotonic() + 60
        while not children_of(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        command.send_signal(signal.SIGKILL)

    deadline = time.monotonic() + 30
    while children_of(tmp_path):
        assert time.monotonic() < deadline, "a process of the proof goes on without it"
        time.sleep(0.05)
