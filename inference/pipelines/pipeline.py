"""A version's declarative pipeline: from a caller's text to rows of ids, and from outputs to a prediction."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from inference.errors import InvalidInput, ModelFailed, ModelLoadFailed
from inference.files import read_bounded
from inference.pipelines.text import token_ids
from inference.tensors import Collation

# What `pipeline.json` must hold, no more and no less: a misspelt key would otherwise be ignored.
_FIELDS: Final[Mapping[str, type]] = {
    "kind": str,
    "tokenizer": str,
    "vocabulary": str,
    "pad_id": int,
    "unknown_id": int,
    "max_tokens": int,
    "inputs": dict,
    "output": str,
    "postprocess": str,
    "labels": list,
}
# 64 MB of vocabulary is some 8 million words; a bigger file is not one.
_MAX_VOCABULARY_BYTES: Final = 64 * 2**20
_MAX_PIPELINE_BYTES: Final = 64 * 2**10
# Scores are float32, good to about seven digits; more would print noise.
_SCORE_DIGITS: Final = 6

Prediction: TypeAlias = list[list[dict[str, str | float]]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call's rows, ready for the queue: one int64 array of ids per text, each with at least one."""

    rows: list[npt.NDArray[np.int64]]
    single: bool  # The caller sent one text, not a list.
    tokens: int  # Ids that will be sent to the model, padding not counted: what the caller is billed for.


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """The text pipeline of one version: words, vocabulary, and a binary label with its score."""

    vocabulary: Mapping[str, int] = field(repr=False)
    unknown_id: int
    max_tokens: int
    labels: tuple[str, str]
    collation: Collation

    def prepare(self, input_data: object, *, max_rows: int, max_characters: int) -> Prepared:
        """Return the rows of one text or of a list of texts; what is beyond `max_tokens` words is cut off.

        Args:
            input_data: A str or a list of str.
            max_rows: Most texts in one call.
            max_characters: Most characters in one call, all texts together.

        Raises:
            InvalidInput: naming the element at fault.
        """
        single = isinstance(input_data, str)
        texts = [input_data] if single else input_data
        if not isinstance(texts, list):
            raise InvalidInput(param="input_data", detail="Send a text or a list of texts.", reason="wrong_type")
        if not 1 <= len(texts) <= max_rows:
            detail = f"Send between 1 and {max_rows} texts; this call has {len(texts)}."
            raise InvalidInput(param="input_data", detail=detail, reason="wrong_row_count")
        rows: list[npt.NDArray[np.int64]] = []
        characters = tokens = 0
        for position, text in enumerate(texts):
            param = "input_data" if single else f"input_data[{position}]"
            if not isinstance(text, str):
                raise InvalidInput(param, "This is not a text.", reason="wrong_type")
            characters += len(text)
            if characters > max_characters:
                detail = f"A call may hold {max_characters} characters in all."
                raise InvalidInput(param, detail, reason="too_many_characters")
            ids = token_ids(text, self.vocabulary, unknown_id=self.unknown_id, max_tokens=self.max_tokens)
            if not ids:
                raise InvalidInput(param, "This text has no words.", reason="empty_text")
            tokens += len(ids)
            rows.append(np.array(ids, dtype=np.int64))
        return Prepared(rows, single, tokens)

    def validate_parameters(self, parameters: object) -> Mapping[str, Any]:
        """Return the caller's parameters, all of them known and in range.

        Raises:
            InvalidInput: naming the parameter at fault.
        """
        if parameters is None:
            return {}
        if not isinstance(parameters, Mapping):
            raise InvalidInput(param="parameters", detail="Send an object.", reason="wrong_type")
        for name in parameters:
            if name != "top_k":
                detail = "This version has no such parameter."
                raise InvalidInput(param=f"parameters.{name}", detail=detail, reason="unknown_parameter")
        top_k = parameters.get("top_k", len(self.labels))
        # True is an int to Python, but not a number to a caller.
        if type(top_k) is not int or not 1 <= top_k <= len(self.labels):
            detail = f"Send a whole number between 1 and {len(self.labels)}."
            raise InvalidInput(param="parameters.top_k", detail=detail, reason="out_of_range")
        return parameters

    def render(self, prepared: Prepared, outputs: Mapping[str, npt.NDArray[Any]], parameters: Mapping[str, Any]) -> Prediction:
        """Return, for each row, labels with their scores, the highest first.

        Args:
            prepared: What was asked.
            outputs: What `Engine.infer` answered: the probability of the second label, `(rows, 1)`.
            parameters: What `validate_parameters` returned.

        Raises:
            ModelFailed: the output has another size, or holds what is no probability.
        """
        probabilities = outputs[self.collation.output].ravel().tolist()
        if len(probabilities) != len(prepared.rows):
            msg = f"{len(probabilities)} probabilities for {len(prepared.rows)} rows"
            raise ModelFailed(msg)
        top_k = parameters.get("top_k", len(self.labels))
        return [self._ranked(probability, row)[:top_k] for row, probability in enumerate(probabilities)]

    def _ranked(self, probability: float, row: int) -> list[dict[str, str | float]]:
        if not 0.0 <= probability <= 1.0:  # NaN too: it compares false.
            msg = f"{probability} is not a probability"
            raise ModelFailed(msg, row=row)
        first, second = self.labels
        negative: dict[str, str | float] = {"label": first, "score": round(1.0 - probability, _SCORE_DIGITS)}
        positive: dict[str, str | float] = {"label": second, "score": round(probability, _SCORE_DIGITS)}
        return [positive, negative] if probability >= 0.5 else [negative, positive]

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of a request's `input_data` and `parameters`."""
        return {
            "type": "object",
            "properties": {
                "input_data": {
                    "description": f"One text, or a list of texts. Each is read up to its first {self.max_tokens} words.",
                    "oneOf": [
                        {"type": "string", "minLength": 1},
                        {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
                    ],
                },
                "parameters": {
                    "type": "object",
                    "properties": {
                        "top_k": {
                            "description": "How many labels to return for each text, the likeliest first.",
                            "type": "integer",
                            "minimum": 1,
                            "maximum": len(self.labels),
                            "default": len(self.labels),
                        }
                    },
                    "additionalProperties": False,
                },
            },
            "required": ["input_data"],
        }

    def example(self) -> dict[str, Any]:
        """Return a request body that this pipeline accepts."""
        texts = ["a moving, funny film", "two hours I want back"]
        return {"input_data": texts, "parameters": {"top_k": len(self.labels)}}


def load_pipeline(folder: Path) -> Pipeline:
    """Return the pipeline that `pipeline.json` and its vocabulary file describe.

    Raises:
        ModelLoadFailed: a file is missing, too big, or says something this version of the code does not know.
    """
    fields = _read_fields(folder / "pipeline.json")
    known = {"kind": "text", "tokenizer": "words", "postprocess": "binary"}
    for name, value in known.items():
        _require(fields[name] == value, f"{name} {fields[name]!r} is not supported")
    inputs, labels = fields["inputs"], fields["labels"]
    _require(set(inputs) == {"ids", "lengths"} and _are_texts(inputs.values()), "inputs must name ids and lengths")
    _require(len(labels) == 2 and _are_texts(labels), "postprocess binary takes two labels")
    vocabulary = _read_vocabulary(folder, fields["vocabulary"])
    _require(fields["max_tokens"] >= 1, "max_tokens must be at least 1")
    for name in ("pad_id", "unknown_id"):
        _require(0 <= fields[name] < len(vocabulary), f"{name} is outside the vocabulary")
    return Pipeline(
        vocabulary=vocabulary,
        unknown_id=fields["unknown_id"],
        max_tokens=fields["max_tokens"],
        labels=(labels[0], labels[1]),
        collation=Collation(
            ids_input=inputs["ids"],
            lengths_input=inputs["lengths"],
            output=fields["output"],
            pad_id=fields["pad_id"],
        ),
    )


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 (reads as a sentence at its calls)
    if not holds:
        msg = f"pipeline.json: {otherwise}"
        raise ModelLoadFailed(msg)


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) and value for value in values)


def _read_fields(path: Path) -> dict[str, Any]:
    try:
        text = _read_text(path, limit_bytes=_MAX_PIPELINE_BYTES)
        fields = json.loads(text)
    except ValueError as error:
        msg = f"pipeline.json is not JSON: {error}"
        raise ModelLoadFailed(msg) from error
    _require(isinstance(fields, dict) and set(fields) == set(_FIELDS), f"the fields must be {sorted(_FIELDS)}")
    for name, kind in _FIELDS.items():
        _require(type(fields[name]) is kind, f"{name} must be a {kind.__name__}")
    return dict(fields)


def _read_vocabulary(folder: Path, name: str) -> dict[str, int]:
    """Return token -> id; the id is the line's number, from 0."""
    # The file lies beside pipeline.json: a path would let an upload read the operator's files.
    _require(Path(name).name == name, f"vocabulary {name!r} is not a file name")
    lines = _read_text(folder / name, limit_bytes=_MAX_VOCABULARY_BYTES).split("\n")
    if lines[-1] == "":
        del lines[-1]
    vocabulary = {token: number for number, token in enumerate(lines)}
    _require(len(vocabulary) == len(lines), f"{name} names a token twice")
    return vocabulary


def _read_text(path: Path, *, limit_bytes: int) -> str:
    content = read_bounded(path, limit_bytes=limit_bytes)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        msg = f"{path.name} is not UTF-8: {error}"
        raise ModelLoadFailed(msg) from error
