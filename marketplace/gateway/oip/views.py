"""What a version takes and gives on the Open Inference Protocol: the graph's own tensors, or texts in and labels out.

A version with a pipeline is called through it here as everywhere (ADR 12): its words, and so its
price, are the pipeline's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.errors import InvalidInput, ModelFailed
from inference.pipelines.image_heads import is_picture
from inference.pipelines.pipeline import ImagePipeline, Pipeline
from inference.signature import Signature, TensorSpec
from marketplace.gateway.versions import ServedVersion

INPUT: Final = "input_data"
LABEL: Final = "label"
SCORE: Final = "score"
VALUES: Final = "values"  # Of a pipeline that answers with numbers.


def signature_of(version: ServedVersion) -> Signature:
    """Return the tensors that callers of a version send and get."""
    pipeline = version.bundle.pipeline
    if pipeline is None:
        return version.bundle.signature
    outputs: tuple[TensorSpec, ...] = (TensorSpec(VALUES, "FP32", (-1,), any_rank=True),)
    if pipeline.labels:
        outputs = (TensorSpec(LABEL, "BYTES", (-1,)), TensorSpec(SCORE, "FP32", (-1, len(pipeline.labels))))
    return Signature(inputs=(TensorSpec(INPUT, "BYTES", (-1,)),), outputs=outputs, has_rows=True)


def labels_of(version: ServedVersion) -> Sequence[str]:
    """Return what the columns of `score` mean, in order; empty where nobody knows."""
    pipeline = version.bundle.pipeline
    return pipeline.labels if pipeline else ()


def examples_of(inputs: Mapping[str, npt.NDArray[Any]], pipeline: Pipeline) -> list[str] | list[bytes]:
    """Return the examples of a call with a pipeline: texts; or images, as files or in base64.

    Raises:
        InvalidInput: the one input is not `input_data`, BYTES `(rows,)` or `(rows, 1)`; or texts are no UTF-8.
    """
    if not isinstance(pipeline, ImagePipeline):
        return texts_of(inputs)
    files = _elements_of(inputs)
    if all(is_picture(file) for file in files):
        return files
    return texts_of(inputs)  # In base64, as JSON carries them.


def texts_of(inputs: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Return the texts of a call with a pipeline.

    Raises:
        InvalidInput: the one input is not `input_data`, BYTES `(rows,)` or `(rows, 1)` of UTF-8.
    """
    texts: list[str] = []
    for element in _elements_of(inputs):
        try:
            texts.append(element.decode())
        except UnicodeDecodeError:
            raise InvalidInput(param=f"inputs.{INPUT}", detail=f"Element {len(texts)} is no UTF-8 text.", reason="wrong_encoding") from None
    return texts


def _elements_of(inputs: Mapping[str, npt.NDArray[Any]]) -> list[bytes]:
    for name in inputs:
        if name != INPUT:
            raise InvalidInput(param=f"inputs.{name[:80]}", detail=f"This version takes one input, {INPUT}.", reason="unknown_input")
    array = inputs[INPUT]
    if array.dtype != np.object_:
        raise InvalidInput(param=f"inputs.{INPUT}", detail="The datatype must be BYTES.", reason="wrong_datatype")
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise InvalidInput(param=f"inputs.{INPUT}", detail=f"The shape must be [-1]; this is {list(array.shape)}.", reason="wrong_shape")
    elements: list[bytes] = array.ravel().tolist()
    return elements


def tensors_of(prediction: Sequence[Any], pipeline: Pipeline) -> dict[str, npt.NDArray[Any]]:
    """Return a pipeline's prediction as its output tensors.

    Args:
        prediction: For each row all labels with their scores, the likeliest first; or its numbers.
        pipeline: Whose labels, in the order of `score`'s columns.

    Raises:
        ModelFailed: a label is missing.
    """
    if not pipeline.labels:
        return {VALUES: np.array(prediction, dtype=np.float32)}
    columns = {label: column for column, label in enumerate(pipeline.labels)}
    best = np.empty(len(prediction), dtype=np.object_)
    scores = np.empty((len(prediction), len(columns)), dtype=np.float32)
    for place, row in enumerate(prediction):
        if len(row) != len(columns):
            message = f"{len(row)} labels instead of {len(columns)}"
            raise ModelFailed(message, row=place)
        best[place] = str(row[0]["label"]).encode()
        for entry in row:
            scores[place, columns[str(entry["label"])]] = entry["score"]
    return {LABEL: best, SCORE: scores}
