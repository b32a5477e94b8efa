"""What a published version takes, for the pages and the REST API: its pipeline's input, or its graph's tensors."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings

from inference.artifacts import load_signature
from inference.errors import ModelLoadFailed
from inference.pipelines.pipeline import Pipeline, load_pipeline
from inference.signature import Signature
from marketplace.models import ModelVersion


@dataclass(frozen=True, slots=True)
class Interface:
    """A version's input, described."""

    signature: Signature
    pipeline: Pipeline | None  # None: callers send the graph's tensors by name.

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of a predict body."""
        return self.pipeline.schema() if self.pipeline else self.signature.json_schema()

    def example(self) -> dict[str, Any] | None:
        """Return a predict body, or None where one would fill pages."""
        return self.pipeline.example() if self.pipeline else self.signature.example()


def find_interface(version: ModelVersion) -> Interface | None:
    """Return what a version takes; None where its files cannot be read."""
    if not has_files(version):
        return None
    folder = settings.ARTIFACTS_DIR / version.folder
    try:
        signature = load_signature(folder / version.artifact, sha256=version.digest)
        return Interface(signature, _load_pipeline(version.folder) if (folder / "pipeline.json").exists() else None)
    except ModelLoadFailed:
        return None


def has_files(version: ModelVersion) -> bool:
    """Whether a version's artifact is there: for lists, which must not read every model."""
    return (settings.ARTIFACTS_DIR / version.folder / version.artifact).is_file()


# A folder is written once and never changes. 32 vocabularies of 20,000 words are some 100 MB.
@lru_cache(maxsize=32)
def _load_pipeline(folder: str) -> Pipeline:
    return load_pipeline(settings.ARTIFACTS_DIR / folder)
