"""A site as setup leaves it, made once and copied: migrating, compressing and examining take ten seconds of a core each time."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
# Beside a developer's own site, so that the next run of the tests finds it.
_KEPT: Final = ROOT / "var" / "test-sites"
_PRINTED: Final = "printed"
# Where a setup puts what it makes, and by what it knows its keys: with others than VAR_DIR's own there is nothing to copy.
ELSEWHERE: Final = {"ARTIFACTS_DIR", "DATABASE_URL", "KEY_PEPPER", "SECRET_KEY"}
# What a setup is made of. Static files are not among it: setup compares them by itself.
_MADE_FROM: Final = ("billing/**/*.py", "inference/**/*.py", "marketplace/**/*.py", "inference/starter/**/*", "requirements/dev.txt")


def copy_ready_site(var_dir: Path) -> str:
    """Fill a VAR_DIR with what `manage.py setup` makes of an empty one; return what it printed, secrets and all."""
    ready = _ready_site()
    shutil.copytree(ready / "var", var_dir, dirs_exist_ok=True)
    return (ready / _PRINTED).read_text()


def copy_ready_static(var_dir: Path) -> None:
    """Give an empty VAR_DIR the compressed static files only: setup sees by itself whether they are still right."""
    shutil.copytree(_ready_site() / "var" / "static", var_dir / "static")


@cache
def _ready_site() -> Path:
    """Return the folder of a site set up today from these very sources; make it where there is none."""
    _KEPT.mkdir(parents=True, exist_ok=True)
    wanted = _KEPT / f"{datetime.now(UTC):%Y%m%d}-{_fingerprint()}"
    with (_KEPT / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Several test processes start at once, and one makes it for all.
        if not wanted.exists():
            for old in _KEPT.iterdir():
                if old.is_dir() and not old.name.startswith(f"{datetime.now(UTC):%Y%m%d}-"):
                    shutil.rmtree(old, ignore_errors=True)
            _make(wanted)
    return wanted


def _make(wanted: Path) -> None:
    fresh = Path(tempfile.mkdtemp(prefix=f"{wanted.name}-", dir=_KEPT))
    settings = {**{name: value for name, value in os.environ.items() if name not in ELSEWHERE}, "VAR_DIR": str(fresh / "var")}
    made = subprocess.run([sys.executable, "manage.py", "setup"], cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    (fresh / _PRINTED).write_text(made.stdout)
    fresh.rename(wanted)  # Whole or not at all.


def _fingerprint() -> str:
    summed = hashlib.sha256(sys.version.encode())
    for path in sorted(_sources()):
        summed.update(f"{path.relative_to(ROOT)}\0".encode())
        summed.update(path.read_bytes())
    return summed.hexdigest()[:16]


def _sources() -> Iterator[Path]:
    for pattern in _MADE_FROM:
        yield from (path for path in ROOT.glob(pattern) if path.is_file() and "__pycache__" not in path.parts)
