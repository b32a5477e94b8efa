"""Try promises one after the other, each in a process of its own on a database and files made for it, and leave nothing behind.

The reader's own site is never touched: what we start sees none of its settings, only a folder of ours, and the
database in it is SQLite.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from django.conf import settings

from marketplace.proving.promises import PROMISES
from marketplace.proving.rows import Row, untried

# Of a promise, on a machine that is busy with other things. None takes a tenth of it on one that is not.
PATIENCE_S: Final = 600
# What a program needs of its surroundings. Farebox's own settings are not among them: they name the reader's data.
_INHERITED: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip


def try_promises(numbers: Iterable[int]) -> Iterator[Row]:
    """Yield the row of each promise as soon as it was tried."""
    with tempfile.TemporaryDirectory(prefix="farebox-prove-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        why = _run("prepare", folder / "site", folder / "prepared")
        for number in numbers:
            if why:
                yield untried(PROMISES[number], f"no site to try it on could be made: {why}")
                continue
            yield _try_one(number, folder)


def _try_one(number: int, folder: Path) -> Row:
    began, here, result = time.monotonic(), folder / str(number), folder / f"{number}.json"
    shutil.copytree(folder / "site", here)
    why = _run(str(number), here, result)
    shutil.rmtree(here, ignore_errors=True)
    if why:
        return untried(PROMISES[number], why, seconds=time.monotonic() - began)
    return Row.parse(result.read_text())


def _run(step: str, var_dir: Path, result: Path) -> str:
    """Run a step to its end, and end what it left running; return why there is no result, or nothing."""
    (var_dir / "static").mkdir(parents=True, exist_ok=True)
    log = result.with_suffix(".log")
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "marketplace.proving.child", step, str(result)],
            cwd=settings.BASE_DIR,
            env={name: os.environ[name] for name in _INHERITED if name in os.environ} | {"VAR_DIR": str(var_dir)},
            stdin=subprocess.PIPE,  # Never written to: its end tells the child that we are gone, even by kill -9.
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        assert child.stdin is not None
        try:
            status = child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            return f"it did not end within {PATIENCE_S} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.stdin.close()
            child.wait()
    if status or not result.exists():
        return f"the process ended with {status}: {_last_line(log)}"
    return ""


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
