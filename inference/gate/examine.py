"""Examine a model's folder: three sandboxed processes, a wall clock over each, and one report of what they found."""

import base64
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from inference.artifacts import MAX_MODEL_BYTES
from inference.errors import InvalidInput, ModelLoadFailed
from inference.gate.limits import GateLimits
from inference.gate.messages import Link, LinkLost
from inference.gate.report import Check, Outcome, Report, failed, skipped
from inference.pipelines.pipeline import Pipeline, load_pipeline
from inference.tensors import PipelineRow

__all__ = ["Examination", "Report", "examine"]

_PACKAGE_ROOT: Final = Path(__file__).resolve().parents[2]
_TICK_S: Final = 1.0
# Users of workers are numbered from 0; an examined model must not be the user that another one runs as.
_FIRST_INDEX: Final = 256
_INDEXES: Final = 4_000
# Parsing 200 MB of protobuf takes a second.
_GRAPH_WALL_S: Final = 30.0
_MAX_SAMPLES_BYTES: Final = 16 * 2**20
_MAX_SAMPLE_CHARACTERS: Final = 100_000
# Messages of one process: some twenty are usual.
_MAX_MESSAGES: Final = 200


class _TimeUp(Exception):
    """The wall clock ran out."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found, and the int8 model where one was made and kept."""

    report: Report
    int8: bytes | None = None


@dataclass(slots=True)
class _Told:
    """What one process said."""

    checks: list[Check]
    figures: dict[str, Any]
    blob: bytes | None = None
    stage: str = "start"


def examine(
    folder: Path,
    *,
    trusted: bool = False,
    int8_tolerance: float | None = None,
    limits: GateLimits | None = None,
    on_tick: Callable[[], None] = lambda: None,
) -> Examination:
    """Return the report on a folder of `model.onnx` and, where they are, `pipeline.json`, its vocabulary and `samples.json`.

    Blocks, up to three times `limits.wall_s`. Whatever the model does, the caller gets a report.

    Args:
        folder: The files.
        trusted: Whether the model is the operator's own, and may be examined without Landlock.
        int8_tolerance: How far an int8 model's answers may be from float32's on the samples, relative to
            each output's largest value (but at least 1); None makes no int8 model.
        limits: Bounds of the model and of the examination.
        on_tick: Called about every second, so that the caller can say that it is alive.
    """
    limits = limits or GateLimits()
    examiner = _Examiner(folder, trusted=trusted, limits=limits, on_tick=on_tick)
    report = Report()
    if not (folder / "model.onnx").is_file() or (folder / "model.onnx").stat().st_size > MAX_MODEL_BYTES:
        report.checks.append(failed("size", f"There is no model.onnx of at most {MAX_MODEL_BYTES} bytes."))
        return Examination(report)
    model = (folder / "model.onnx").read_bytes()
    graph = examiner.ask("graph", model, required=True, wall_s=min(_GRAPH_WALL_S, limits.wall_s))
    report.add(graph.checks)
    if report.failures:
        return Examination(report)
    problem = examiner.read_pipeline()
    if problem is not None:
        report.checks.append(problem)
        return Examination(report)
    probe = examiner.ask("probe", model, required=True, wall_s=limits.wall_s)
    report.add([check for check in probe.checks if check.name != "sandbox"])
    report.figures |= probe.figures
    if report.failures:
        return Examination(report)
    return Examination(report, _examine_int8(examiner, report, model, tolerance=int8_tolerance))


def _examine_int8(examiner: "_Examiner", report: Report, model: bytes, *, tolerance: float | None) -> bytes | None:
    """Have an int8 model made and compared; note in the report why it is kept or not. Never fails the version."""
    if tolerance is None:
        report.checks.append(skipped("int8", "No tolerance was stated, so no int8 model was made."))
        return None
    if not examiner.has_samples:
        report.checks.append(skipped("int8", "Without sample inputs there is nothing to compare an int8 model on, so none was made."))
        return None
    told = examiner.ask("int8", model, required=False, wall_s=examiner.limits.wall_s, tolerance=tolerance)
    report.add([check for check in told.checks if check.name == "int8"])
    report.figures |= told.figures
    if told.blob is None:
        return None
    # It came out of a process in which the model had run: it is looked at like any other upload.
    again = examiner.ask("graph", told.blob, required=True, wall_s=_GRAPH_WALL_S)
    if wrong := [check for check in again.checks if check.outcome == Outcome.FAILED]:
        report.checks = [check for check in report.checks if check.name != "int8"]
        report.checks.append(skipped("int8", f"What quantization made is refused: {wrong[0].detail}"))
        report.figures["int8"] = {**report.figures["int8"], "kept": False}
        return None
    return told.blob


class _Examiner:
    """Starts the processes of one examination, one after the other."""

    def __init__(self, folder: Path, *, trusted: bool, limits: GateLimits, on_tick: Callable[[], None]) -> None:
        self.limits = limits
        self._folder, self._trusted, self._on_tick = folder, trusted, on_tick
        self._pipeline: Pipeline | None = None
        self._rows: list[PipelineRow] | None = None
        self._samples: bytes | None = None

    @property
    def has_samples(self) -> bool:
        """Whether the provider sent inputs."""
        return bool(self._rows or self._samples)

    def read_pipeline(self) -> Check | None:
        """Read the pipeline and the samples; return what is wrong with them, if anything is."""
        samples = self._folder / "samples.json"
        if samples.exists() and samples.stat().st_size > _MAX_SAMPLES_BYTES:
            return failed("samples", f"samples.json is larger than {_MAX_SAMPLES_BYTES} bytes.")
        self._samples = samples.read_bytes() if samples.exists() else None
        if not (self._folder / "pipeline.json").exists():
            return None
        try:
            self._pipeline = load_pipeline(self._folder)
        except ModelLoadFailed as error:
            return failed("pipeline", error.detail)
        if self._samples is not None:
            try:
                self._rows = _rows_of(self._pipeline, self._samples, most=self.limits.max_samples)
            except (ValueError, RecursionError, InvalidInput) as error:
                return failed("samples", f"samples.json: {str(error)[:300]}")
        return None

    def ask(self, task: str, model: bytes, *, required: bool, wall_s: float, tolerance: float | None = None) -> _Told:
        """Have one task done; whatever keeps it from being done is a check, failed where the task is required."""
        told = _Told([], {})
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = _spawn(theirs.fileno(), task=task, trusted=self._trusted, limits=self.limits)
            try:
                self._converse(Link(ours, wait=_clock(ours, wall_s, self._on_tick)), model, told, tolerance=tolerance)
            except (_TimeUp, TimeoutError):
                told.checks.append(_ended(told.stage, f"took longer than {wall_s:g} s and was killed", required=required))
            except (LinkLost, OSError):
                told.checks.append(_ended(told.stage, _cause(process), required=required))
            finally:
                process.kill()  # Popen knows whether it has reaped the process: a reused pid is never hit.
                process.wait()
        return told

    def _converse(self, link: Link, model: bytes, told: _Told, *, tolerance: float | None) -> None:
        blobs = {"model": model} | ({"samples": self._samples} if self._samples is not None and self._pipeline is None else {})
        collation = self._pipeline.collation.as_json() if self._pipeline else None
        question = {"limits": self.limits.as_json(), "collation": collation, "rows": self._rows, "int8_tolerance": tolerance}
        link.send_all(question, blobs)
        for _ in range(_MAX_MESSAGES):
            message = link.receive()
            if message.get("end"):
                return
            _note(link, message, told)
        msg = "too many messages"
        raise LinkLost(msg)


def _note(link: Link, message: Mapping[str, Any], told: _Told) -> None:
    """Take down one message. The process has run a stranger's model: it is believed as far as the fields fit."""
    try:
        if "stage" in message:
            told.stage = str(message["stage"])[:40]
        elif "check" in message:
            fields = message["check"]
            told.checks.append(Check(str(fields["name"])[:40], Outcome(fields["outcome"]), str(fields["detail"])[:1000]))
        elif "figures" in message:
            told.figures |= _figures_of(message["figures"])
        elif 0 <= int(message["blob"]) <= MAX_MODEL_BYTES:
            told.blob = link.receive_bytes(int(message["blob"]))
        else:
            raise LinkLost
    except (KeyError, TypeError, ValueError) as error:
        raise LinkLost from error


def _figures_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers among what was told, and those of int8: pages and programs show them as they are."""
    figures: dict[str, Any] = {str(name)[:40]: value for name, value in told.items() if value is None or isinstance(value, int | float)}
    if isinstance(told.get("int8"), dict):
        figures["int8"] = _figures_of({name: value for name, value in told["int8"].items() if name != "int8"})
    return figures


def _rows_of(pipeline: Pipeline, samples: bytes, *, most: int) -> list[PipelineRow]:
    """Return the provider's samples as rows of ids, or images: a JSON list of examples, or of lists of examples."""
    listed = json.loads(samples)
    if not isinstance(listed, list) or not 1 <= len(listed) <= most:
        msg = f"it must be a list of 1 to {most} samples"
        raise ValueError(msg)
    rows: list[PipelineRow] = []
    for sample in listed:
        prepared = pipeline.prepare(sample, max_rows=most, max_characters=_MAX_SAMPLE_CHARACTERS)
        rows += [row.tolist() if row.ndim == 1 else base64.b64encode(row.tobytes()).decode() for row in prepared.rows]
    return rows[:most]


def _spawn(fd: int, *, task: str, trusted: bool, limits: GateLimits) -> "subprocess.Popen[bytes]":
    told = {
        "task": task,
        "trusted": trusted,
        "index": _FIRST_INDEX + int.from_bytes(os.urandom(2)) % _INDEXES,
        "memory_bytes": limits.memory_bytes,
        "parent_pid": os.getpid(),
    }
    # numpy's BLAS would start a thread per core, which Landlock would not bind.
    environment = {"PYTHONPATH": str(_PACKAGE_ROOT), "LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(  # noqa: S603 (our own interpreter and module)
        [sys.executable, "-m", "inference.gate.child", str(fd), json.dumps(told)],
        env=environment,
        pass_fds=(fd,),
        stdin=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def _clock(sock: socket.socket, wall_s: float, on_tick: Callable[[], None]) -> Callable[[], None]:
    """Return what waits until the socket can be read, ticking meanwhile, and raises _TimeUp at the end."""
    deadline = time.monotonic() + wall_s
    sock.settimeout(wall_s)  # For sending: a process that does not read must not hold us.
    poll = select.poll()
    poll.register(sock, select.POLLIN)

    def wait() -> None:
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise _TimeUp
            if poll.poll(1000 * min(left_s, _TICK_S)):
                return
            on_tick()

    return wait


def _cause(process: "subprocess.Popen[bytes]") -> str:
    """Return how a process ended that ended by itself."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    code = process.returncode
    if code is not None and code < 0:
        return f"ended the process by {signal.Signals(-code).name}"
    return "ended the process that examined it"


def _ended(stage: str, how: str, *, required: bool) -> Check:
    detail = f"It {how}, in the stage {stage!r}."
    return failed("survival", detail) if required else skipped("int8", f"Making or comparing the int8 model {how}; float32 is served.")
