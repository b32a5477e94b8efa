"""Versions' files on disk: taken in under names of ours, hashed as they come, moved into place by one rename."""

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from django.conf import settings

from inference.artifacts import MAX_MODEL_BYTES
from marketplace.errors import UploadInvalid

# What a version may consist of, and the most bytes of each. A sender's own file names are not read.
FILES: Final[Mapping[str, int]] = {
    "model.onnx": MAX_MODEL_BYTES,
    "pipeline.json": 64 * 2**10,
    "vocabulary.txt": 64 * 2**20,
    "tokenizer.json": 32 * 2**20,
    "samples.json": 16 * 2**20,
    "card.json": 2**20,
    "card.md": 2**20,
    "learning-curve.svg": 4 * 2**20,
}
INT8_ARTIFACT: Final = "model.int8.onnx"
_INCOMING: Final = "incoming"
_PIECE_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class Taken:
    """Files that were taken in and belong to no version yet."""

    folder: Path
    digest: str  # SHA-256 of model.onnx, hex.
    model_bytes: int
    size_bytes: int  # Of all files.

    def move_to(self, name: str) -> None:
        """Make them a version's, by one rename: its folder is whole or not there."""
        target = settings.ARTIFACTS_DIR / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)  # Left by a publication that was rolled back.
        self.folder.rename(target)

    def drop(self) -> None:
        """Delete them, if they are still here."""
        shutil.rmtree(self.folder, ignore_errors=True)


def take_files(files: Mapping[str, Iterable[bytes]]) -> Taken:
    """Write files beside the artifacts, piece by piece, and return what they are.

    Args:
        files: Name, one of FILES -> content in pieces.

    Raises:
        UploadInvalid: one is unknown or too large, or there is no model. Nothing is left.
        OSError: the disk is full. Nothing is left.
    """
    folder: Path = settings.ARTIFACTS_DIR / _INCOMING / uuid4().hex
    folder.mkdir(parents=True)
    try:
        return _take(folder, files)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _take(folder: Path, files: Mapping[str, Iterable[bytes]]) -> Taken:
    sizes: dict[str, int] = {}
    digest = ""
    for name, pieces in files.items():
        if name not in FILES:
            message = f"A version has no file {name[:80]!r}."
            raise UploadInvalid(message)
        sizes[name], hashed = _write(folder / name, pieces, most=FILES[name])
        digest = hashed if name == "model.onnx" else digest
    if not sizes.get("model.onnx"):
        message = "Send the ONNX file."
        raise UploadInvalid(message, param="model")
    return Taken(folder, digest, sizes["model.onnx"], sum(sizes.values()))


def read_folder(source: Path) -> dict[str, Iterable[bytes]]:
    """Return the files of a folder that a version may consist of, as `take_files` wants them."""
    return {name: read_pieces(source / name) for name in FILES if (source / name).is_file()}


def read_pieces(path: Path) -> Iterable[bytes]:
    """Yield a file's content in pieces."""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def write_int8(folder: str, model: bytes) -> str:
    """Put the int8 model beside a version's artifact, whole or not at all; return its SHA-256, hex."""
    target: Path = settings.ARTIFACTS_DIR / folder / INT8_ARTIFACT
    fresh = target.with_name(target.name + ".new")
    fresh.write_bytes(model)
    fresh.rename(target)
    return hashlib.sha256(model).hexdigest()


def delete_files(folder: str) -> None:
    """Delete a version's files; that they are gone already is as well."""
    if folder:
        shutil.rmtree(settings.ARTIFACTS_DIR / folder, ignore_errors=True)


def _write(path: Path, pieces: Iterable[bytes], *, most: int) -> tuple[int, str]:
    """Write one file; return its size and its SHA-256, hex."""
    hashed, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for piece in pieces:
            size += len(piece)
            if size > most:
                message = f"{path.name} has more than {most} bytes."
                raise UploadInvalid(message, param=path.stem)
            hashed.update(piece)
            file.write(piece)
    return size, hashed.hexdigest()
