import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from inference import landlock
from inference.gate.examine import Examination
from inference.gate.report import Report, passed
from marketplace import examining, tasks
from marketplace.examining import claim_version, examine_waiting, waiting_versions
from marketplace.models import CatalogueModel, ModelVersion, Organization
from tests.inference import hostile
from tests.marketplace.uploaded import a_model, examined, submitted

pytestmark = [
    pytest.mark.skipif(landlock.find_abi() is None, reason="this kernel has no Landlock, so uploads are refused"),
    pytest.mark.django_db,
]


@pytest.fixture
def model(organization: Organization) -> CatalogueModel:
    return a_model(organization)


def test_a_sound_version_becomes_ready_with_its_report(model: CatalogueModel) -> None:
    version = examined(model)

    assert version.state == "ready"
    assert version.report["passed"]
    assert version.report["figures"]["p50_ms"] > 0
    assert (version.claimed_until, version.attempts) == (None, 1)


def test_a_hostile_version_fails_with_the_reason(model: CatalogueModel) -> None:
    version = examined(model, hostile.outside_in_initializer())

    assert version.state == "failed"
    assert [check["name"] for check in version.report["checks"] if check["outcome"] == "failed"] == ["external_data"]


def test_each_waiting_version_is_claimed_once_the_oldest_first(model: CatalogueModel) -> None:
    first, second = submitted(model), submitted(model)

    claims = [claim_version(), claim_version(), claim_version()]

    assert [claim.pk for claim in claims if claim] == [first.pk, second.pk]
    assert claims[2] is None
    assert not waiting_versions().exists()


def test_a_version_whose_examiner_died_is_taken_up_again_and_its_late_result_is_not_taken(
    model: CatalogueModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = submitted(model)
    stale = claim_version()
    assert stale is not None
    ModelVersion.objects.filter(pk=version.pk).update(claimed_until=timezone.now() - timedelta(seconds=1))

    fresh = claim_version()

    assert fresh is not None
    assert fresh.attempts == 2
    with pytest.raises(examining._ClaimLost):
        examining._record(stale, Examination(Report(checks=[passed("load", "")])))
    version.refresh_from_db()
    assert (version.state, version.report) == ("validating", None)


def test_a_heartbeat_keeps_the_claim_and_a_lost_one_ends_the_work(model: CatalogueModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "_RENEW_S", 0.0)
    version = submitted(model)
    claimed = claim_version()
    assert claimed is not None
    heartbeat = examining._Heartbeat(claimed)
    ModelVersion.objects.filter(pk=version.pk).update(claimed_until=timezone.now())

    heartbeat.beat()

    version.refresh_from_db()
    assert version.claimed_until > timezone.now() + timedelta(seconds=20)
    ModelVersion.objects.filter(pk=version.pk).update(attempts=2)
    with pytest.raises(examining._ClaimLost):
        heartbeat.beat()


def test_after_three_cut_off_tries_the_version_fails_and_is_not_run_again(model: CatalogueModel, monkeypatch: pytest.MonkeyPatch) -> None:
    version = submitted(model)
    ModelVersion.objects.filter(pk=version.pk).update(state="validating", attempts=3, claimed_until=timezone.now() - timedelta(seconds=1))
    monkeypatch.setattr(examining, "examine", lambda *_, **__: pytest.fail("it was run"))

    assert examine_waiting() == 1

    version.refresh_from_db()
    assert version.state == "failed"
    assert "cut off 3 times" in version.report["checks"][0]["detail"]


def test_the_task_starts_one_process_and_only_where_something_waits(model: CatalogueModel, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    class Running:
        def __init__(self, argv: list[str], **_: Any) -> None:
            started.append(argv)

        def poll(self) -> None:
            return None

    monkeypatch.setattr(tasks, "_examiner", None)
    monkeypatch.setattr(tasks.subprocess, "Popen", Running)

    tasks.examine_versions()
    assert started == []
    submitted(model)
    tasks.examine_versions()
    tasks.examine_versions()

    assert [argv[2:4] for argv in started] == [["examine", "--parent-pid"]]


def test_the_command_ends_with_whoever_started_it() -> None:
    # A parent that dies at once: the command must not outlive it, whatever it is doing.
    program = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'from inference import sandbox; import time, sys;"
        "sandbox.detach(parent_pid=int(sys.argv[1])); print(1, flush=True); time.sleep(60)', str(os.getpid())], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == -signal.SIGKILL
    child = int(ended.stdout)
    deadline = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    """Whether a process exists and is no zombie (a container's first process may collect none)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
