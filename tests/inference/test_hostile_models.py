"""The hostile corpus, through the gate: each model is refused with the reason, in bounded time, and takes nothing down."""

import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

from inference import landlock
from inference.gate.examine import examine
from inference.gate.limits import GateLimits
from inference.gate.report import Check, Outcome, Report
from tests.inference import hostile

pytestmark = pytest.mark.skipif(landlock.find_abi() is None, reason="this kernel has no Landlock, so the gate refuses everything")
LIMITS = GateLimits(wall_s=5, run_s=2, memory_bytes=2 * 2**30)


def examined(folder: Path, model: onnx.ModelProto | bytes, **settings: Any) -> Report:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    return examine(folder, **({"limits": LIMITS} | settings)).report


def only_failure(report: Report) -> Check:
    [failure] = report.failures
    return failure


def processes_left() -> list[str]:
    """Return the gate's processes that are our children still."""
    listed = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True, check=False).stdout
    return [line for line in listed.splitlines() if "inference.gate.child" in line]


@pytest.mark.parametrize(
    ("model", "check", "told"),
    [
        (hostile.asks_for_186_gb(), "shapes", "50000x1000000"),
        (hostile.asks_for_186_gb_when_run(), "made_inputs", "memory"),
        (hostile.loops_for_ever(), "survival", "longer than 5 s and was killed"),
        (hostile.multiplies_for_long(), "survival", "killed"),
        (hostile.crashes(), "survival", "SIGFPE"),
        (hostile.nests_beyond_protobuf(10_000), "format", "no ONNX file"),
        (hostile.nests(9), "graph", "8 deep"),
        (hostile.has_nodes(20_001), "graph", "20001"),
        (hostile.laughs(6, each=200), "graph", "More than 1,000,000,000"),
        (hostile.outside_in_subgraph(), "external_data", "'w'"),
        (hostile.wraps_around(), "shapes", "4294967296x4294967296"),
        (hostile.unknown_operator(), "load", "Teleport"),
        (hostile.custom_operator(), "operators", "com.example::Shell"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_is_refused_with_the_reason_and_nothing_is_left_running(
    tmp_path: Path, model: onnx.ModelProto | bytes, check: str, told: str
) -> None:
    started = time.monotonic()

    failure = only_failure(examined(tmp_path, model))

    assert (failure.name, told in failure.detail) == (check, True), failure
    assert time.monotonic() - started < 30
    assert processes_left() == []


def test_a_model_that_is_killed_is_told_the_stage_it_hung_in(tmp_path: Path) -> None:
    failure = only_failure(examined(tmp_path, hostile.loops_for_ever(), limits=GateLimits(wall_s=3)))

    assert "in the stage 'made inputs'" in failure.detail


def test_a_reason_names_no_path_of_ours(tmp_path: Path) -> None:
    for model in (hostile.unknown_operator(), hostile.asks_for_186_gb_when_run()):
        text = str(examined(tmp_path, model).as_json())

        assert "/onnxruntime" not in text
        assert str(tmp_path) not in text


def test_damaged_files_are_refused_or_work_and_never_hang(tmp_path: Path) -> None:
    seed = 20261122
    choose = random.Random(seed)
    sound = hostile.laughs(2).SerializeToString()
    for number in range(12):
        damaged = bytearray(sound)
        for _ in range(choose.randint(1, 8)):
            damaged[choose.randrange(len(damaged))] = choose.randrange(256)

        report = examined(tmp_path, bytes(damaged))

        assert report.passed or report.failures, f"seed {seed}, file {number}"
        assert all(check.outcome != Outcome.FAILED or check.detail for check in report.checks)
    assert processes_left() == []
