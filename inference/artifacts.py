"""A version's files as the engine takes them: the ONNX artifact, its hash, and its pipeline."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from inference.errors import ModelLoadFailed
from inference.pipelines.pipeline import Pipeline, load_pipeline

# The publish gate's limit (MODELS section 3); a larger file is refused before it is read.
MAX_MODEL_BYTES: Final = 200 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """One servable artifact: where it lies, what it must hash to, and how text becomes its inputs."""

    folder: Path
    path: Path
    digest: str  # SHA-256 of the ONNX file, hex.
    size_bytes: int
    pipeline: Pipeline
    # What the engine knows the version by: the artifact, and the names its pipeline uses.
    key: str = field(init=False)

    def __post_init__(self) -> None:
        """Derive the key once; it is looked up on every call."""
        object.__setattr__(self, "key", f"{self.digest}:{self.pipeline.collation}")


def load_bundle(folder: Path, *, artifact: str = "model.onnx", sha256: str | None) -> Bundle:
    """Return the bundle in a folder of `pipeline.json`, its vocabulary and the named ONNX file.

    Args:
        folder: Where the files lie.
        artifact: The ONNX file's name in the folder ("model.onnx", "model.int8.onnx").
        sha256: What the file must hash to, hex; None takes the file as it is (only for files
            that nobody else can write).

    Raises:
        ModelLoadFailed: a file is missing, malformed or not the one published.
    """
    if Path(artifact).name != artifact:
        msg = f"artifact {artifact!r} is not a file name"
        raise ModelLoadFailed(msg)
    pipeline = load_pipeline(folder)
    path = folder / artifact
    model = _read_file(path)
    digest = hashlib.sha256(model).hexdigest()
    if sha256 is not None and digest != sha256.lower():
        msg = f"{artifact} hashes to {digest}, not to {sha256}"
        raise ModelLoadFailed(msg)
    return Bundle(folder=folder, path=path, digest=digest, size_bytes=len(model), pipeline=pipeline)


def read_model(bundle: Bundle) -> bytes:
    """Return the ONNX file's bytes, hashed again: what is loaded is what was published.

    Raises:
        ModelLoadFailed: the file is gone or has changed since.
    """
    model = _read_file(bundle.path)
    digest = hashlib.sha256(model).hexdigest()
    if digest != bundle.digest:
        msg = f"{bundle.path.name} hashes to {digest}, not to {bundle.digest}"
        raise ModelLoadFailed(msg)
    return model


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            model = file.read(MAX_MODEL_BYTES + 1)
    except OSError as error:
        msg = f"{path.name} cannot be read: {error.strerror}"
        raise ModelLoadFailed(msg) from error
    if len(model) > MAX_MODEL_BYTES:
        msg = f"{path.name} is larger than {MAX_MODEL_BYTES} bytes"
        raise ModelLoadFailed(msg)
    return model
