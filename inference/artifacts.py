"""A version's files as the engine takes them: the ONNX artifact, its hash and signature, and its pipeline."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from inference.batching import BatchLimits
from inference.errors import ModelLoadFailed
from inference.files import read_bounded
from inference.graph import find_signature, signature_of
from inference.pipelines.pipeline import ImagePipeline, Pipeline, load_pipeline
from inference.signature import Signature

# The publish gate's limit (MODELS section 3); a larger file is refused before it is read.
MAX_MODEL_BYTES: Final = 200 * 2**20
# Images of 4 MB in one batch, and their rows x the longest's megapixels.
_MAX_IMAGES: Final = 32
_MAX_MEGAPIXELS: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """One servable artifact: where it lies, what it must hash to, what it takes, and how text becomes that."""

    folder: Path
    path: Path
    digest: str  # SHA-256 of the ONNX file, hex.
    size_bytes: int
    signature: Signature
    pipeline: Pipeline | None  # None: callers send the graph's own tensors, by name.
    limits: BatchLimits | None = None  # How its rows wait and run together; None for the engine's own.
    # What the engine knows the version by: the artifact, and the names its pipeline uses.
    key: str = field(init=False)

    def __post_init__(self) -> None:
        """Derive the key once; it is looked up on every call."""
        object.__setattr__(self, "key", f"{self.digest}:{self.pipeline.collation if self.pipeline else 'tensors'}")


def load_bundle(folder: Path, *, artifact: str = "model.onnx", sha256: str | None, limits: BatchLimits | None = None) -> Bundle:
    """Return the bundle in a folder of the named ONNX file and, unless it takes raw tensors, `pipeline.json` and its vocabulary.

    Args:
        folder: Where the files lie.
        artifact: The ONNX file's name in the folder ("model.onnx", "model.int8.onnx").
        sha256: What the file must hash to, hex; None takes the file as it is (only for files
            that nobody else can write).
        limits: How its rows wait and run together; None for the engine's own.

    Raises:
        ModelLoadFailed: a file is missing, malformed or not the one published.
    """
    if Path(artifact).name != artifact:
        msg = f"artifact {artifact!r} is not a file name"
        raise ModelLoadFailed(msg)
    pipeline = load_pipeline(folder) if (folder / "pipeline.json").exists() else None
    path = folder / artifact
    model = read_bounded(path, limit_bytes=MAX_MODEL_BYTES)
    digest = hashlib.sha256(model).hexdigest()
    if sha256 is not None and digest != sha256.lower():
        msg = f"{artifact} hashes to {digest}, not to {sha256}"
        raise ModelLoadFailed(msg)
    signature = signature_of(model, digest=digest)
    if isinstance(pipeline, ImagePipeline):  # A batch of files must fit one message to a worker (256 MB), and be decoded within a second.
        limits = limits or BatchLimits()
        limits = replace(limits, max_rows=min(limits.max_rows, _MAX_IMAGES), max_tokens=min(limits.max_tokens, _MAX_MEGAPIXELS))
    return Bundle(folder=folder, path=path, digest=digest, size_bytes=len(model), signature=signature, pipeline=pipeline, limits=limits)


def load_signature(path: Path, *, sha256: str) -> Signature:
    """Return what an artifact takes and gives; the file is read once per process.

    Raises:
        ModelLoadFailed: the file is missing, malformed or not the one published.
    """
    signature = find_signature(sha256)
    if signature is None:
        signature = signature_of(_read_checked(path, sha256), digest=sha256)
    return signature


def read_model(bundle: Bundle) -> bytes:
    """Return the ONNX file's bytes, hashed again: what is loaded is what was published.

    Raises:
        ModelLoadFailed: the file is gone or has changed since.
    """
    return _read_checked(bundle.path, bundle.digest)


def _read_checked(path: Path, digest: str) -> bytes:
    model = read_bounded(path, limit_bytes=MAX_MODEL_BYTES)
    found = hashlib.sha256(model).hexdigest()
    if found != digest:
        msg = f"{path.name} hashes to {found}, not to {digest}"
        raise ModelLoadFailed(msg)
    return model
