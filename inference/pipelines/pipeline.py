"""A version's declarative pipeline, read from its `pipeline.json`: texts or images in, labels or numbers out."""

import json
from pathlib import Path
from typing import Final

from inference.errors import ModelLoadFailed
from inference.files import read_text
from inference.pipelines.base import Pipeline, Prepared, require
from inference.pipelines.image_pipeline import ImagePipeline, make_image_pipeline
from inference.pipelines.piece_pipeline import TOKENIZER_FILE, PiecePipeline, make_piece_pipeline
from inference.pipelines.text_pipeline import TextPipeline, make_text_pipeline

__all__ = ["ImagePipeline", "PiecePipeline", "Pipeline", "Prepared", "TextPipeline", "load_pipeline", "takes_text"]

_MAX_PIPELINE_BYTES: Final = 64 * 2**10


def takes_text(pipeline: Pipeline | None) -> bool:
    """Whether callers of a version with this pipeline, or none, send texts."""
    return isinstance(pipeline, TextPipeline | PiecePipeline)


def load_pipeline(folder: Path) -> Pipeline:
    """Return the pipeline that `pipeline.json` and the files it names describe.

    Raises:
        ModelLoadFailed: a file is missing, too big, or says something this version of the code does not know.
    """
    try:
        fields = json.loads(read_text(folder / "pipeline.json", limit_bytes=_MAX_PIPELINE_BYTES))
    except ValueError as error:
        msg = f"pipeline.json is not JSON: {error}"
        raise ModelLoadFailed(msg) from error
    require(isinstance(fields, dict), "it must be an object")
    kind = fields.get("kind")
    require(kind in {"text", "image"}, f"kind {kind!r} is not supported")
    if kind == "image":
        return make_image_pipeline(fields)
    return (make_piece_pipeline if fields.get("tokenizer") == TOKENIZER_FILE else make_text_pipeline)(folder, fields)
