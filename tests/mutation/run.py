"""Run the tests of each mutant: `python -m tests.mutation.run billing/pricing.py ...` prints who survived, and the share killed.

One process at a time, at a low priority. A mutant is served to the tests by an import hook, so no file is changed. The test
database is made once and copied. Tests stop at their first failure; what takes too long is killed, and counts as noticed.
"""

import argparse
import importlib.util
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

# What the tests import and is not mutated, once for all of them.
import celery  # noqa: F401
import numpy as np  # noqa: F401
import onnx  # noqa: F401
import pytest
import stripe  # noqa: F401, TID251 (talks to nobody)
from django.db import connection
from django.test import utils as database

from tests.mutation.mutants import Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[2]
# Which tests are to notice, the quickest first.
TESTS = {
    "billing/pricing.py": ["test_pricing.py"],
    "billing/rating.py": ["test_rating.py", "test_quotas.py", "test_rerating.py"],
    "billing/lending.py": ["test_lending.py", "test_leases.py", "test_lease_interleavings.py"],
    "billing/leases.py": ["test_leases.py", "test_lease_interleavings.py", "test_metering.py", "test_quotas.py"],
    "billing/metering.py": ["test_metering.py", "test_leases.py", "test_quotas.py", "test_committer.py"],
    "billing/settling.py": ["test_settling.py", "test_metering.py", "test_usage.py", "test_receipts.py", "test_books.py"],
    "billing/committer.py": ["test_committer.py", "test_metering.py"],
    "billing/ledger.py": ["test_ledger.py", "test_books.py", "test_topups.py", "test_credits.py"],
    "billing/refunding.py": ["test_recovery.py", "test_metering.py", "test_books.py", "test_usage.py"],
}
_PATIENCE_S = 240.0


def main() -> int:
    """Print each survivor and a line per file; return 1 where a file's tests fail without any change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", default=list(TESTS))
    parser.add_argument("--sample", type=int, default=0, help="only so many mutants of each file, chosen by --seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="print those that were noticed, too")
    asked = parser.parse_args()
    os.nice(max(0, 10 - os.nice(0)))
    with tempfile.TemporaryDirectory(prefix="farebox-mutation-") as folder:
        for file in asked.files:
            if not _run_file(file, Path(folder), sample=asked.sample, seed=asked.seed, verbose=asked.verbose):
                return 1
    return 0


def _run_file(file: str, folder: Path, *, sample: int, seed: int, verbose: bool) -> bool:
    source, began = (ROOT / file).read_text(), time.monotonic()
    if _outcome(file, source, folder) != "survived":
        print(f"{file}: its tests fail without any change.")
        return False
    mutants = list(mutants_of(source))
    all_of_them = len(mutants)
    if sample and sample < all_of_them:
        mutants = sorted(random.Random(seed).sample(mutants, sample), key=lambda mutant: mutant.line)
    outcomes: Counter[str] = Counter()
    for mutant in mutants:
        outcome = _outcome(file, mutant.source, folder)
        outcomes[outcome] += 1
        if verbose or outcome == "survived":
            print(f"{file}:{mutant.line}: {outcome}: {_shown(mutant)}", flush=True)
    killed = outcomes["killed"] + outcomes["timed out"]
    took_min = (time.monotonic() - began) / 60
    print(
        f"{file}: {killed} of {len(mutants)} noticed ({killed / max(1, len(mutants)):.0%}) of {all_of_them} mutants, {took_min:.0f} min",
        flush=True,
    )
    return True


def _shown(mutant: Mutant) -> str:
    return f"{mutant.before[:110]}  ->  {mutant.after[:110]}"


def _outcome(file: str, source: str, folder: Path) -> str:
    """Run a file's tests with `source` in its place, in a fork of this process; return killed, survived or timed out."""
    mutated = folder / "mutant.py"
    mutated.write_text(source)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        _be_the_tests(file, mutated, folder / "template.sqlite3")
    late = threading.Timer(_PATIENCE_S, os.killpg, (pid, signal.SIGKILL))  # Not reaped yet, so it is nobody else's.
    late.start()
    _, status = os.waitpid(pid, 0)
    is_late = not late.is_alive()
    late.cancel()
    late.join()
    if is_late:
        return "timed out"
    return "killed" if status else "survived"


# ---------------------------------------------------------------- In the tests' process


def _be_the_tests(file: str, mutated: Path, template: Path) -> None:
    """Run the tests and be gone. They are silent."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    sys.dont_write_bytecode = True
    sys.meta_path.insert(0, _Served(file, mutated))
    tests = [f"tests/billing/{name}" for name in TESTS[file]]
    code = 1
    try:
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--timeout=120", *tests], plugins=[_MadeDatabase(template)]))
    finally:
        os._exit(code)


class _Served:
    """An import hook that gives one module another source."""

    def __init__(self, file: str, mutated: Path) -> None:
        self._name, self._mutated = file.removesuffix(".py").replace("/", "."), mutated

    def find_spec(self, name: str, *_: Any) -> Any:
        """Return where to load the module from; the others are none of ours."""
        return importlib.util.spec_from_file_location(name, self._mutated) if name == self._name else None


class _MadeDatabase:
    """Keeps one migrated database for all runs: making it takes longer than most tests."""

    def __init__(self, template: Path) -> None:
        self._template = template

    def pytest_collection_finish(self) -> None:
        """Have the database that the first run made be copied by the others."""
        make = database.setup_databases

        def copied(*values: Any, **named: Any) -> Any:
            name = Path(connection.settings_dict["TEST"]["NAME"])
            if self._template.exists():
                shutil.copy(self._template, name)
                return make(*values, **{**named, "keepdb": True})
            made = make(*values, **named)
            connection.close()
            shutil.copy(name, self._template)
            return made

        database.setup_databases = copied


if __name__ == "__main__":
    sys.exit(main())
