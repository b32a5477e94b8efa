"""A version's declarative pipeline: from a caller's text to rows of ids, and from outputs to a prediction."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.errors import InvalidInput, ModelLoadFailed
from inference.files import read_bounded
from inference.pipelines.answers import Answers, make_answers
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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call's rows, ready for the queue: one int64 array of ids per text, each with at least one."""

    rows: list[npt.NDArray[np.int64]]
    single: bool  # The caller sent one text, not a list.
    tokens: int  # Ids that will be sent to the model, padding not counted: what the caller is billed for.


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """The text pipeline of one version: words, vocabulary, and what is made of the model's output."""

    vocabulary: Mapping[str, int] = field(repr=False)
    unknown_id: int
    max_tokens: int
    answers: Answers
    collation: Collation

    @property
    def labels(self) -> Sequence[str]:
        """The labels it may answer with, in the order of the model's output; none if it answers with numbers."""
        return self.answers.labels

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
        if parameters:
            self.answers.validate(parameters)
        return parameters

    def render(self, prepared: Prepared, outputs: Mapping[str, npt.NDArray[Any]], parameters: Mapping[str, Any]) -> list[Any]:
        """Return the prediction for each row.

        Args:
            prepared: What was asked.
            outputs: What `Engine.infer` answered, first axis = rows.
            parameters: What `validate_parameters` returned.

        Raises:
            ModelFailed: the output has another size, or holds what it must not.
        """
        return self.answers.render(outputs[self.collation.output], rows=len(prepared.rows), parameters=parameters)

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
                "parameters": {"type": "object", "properties": self.answers.schema(), "additionalProperties": False},
            },
            "required": ["input_data"],
        }

    def example(self) -> dict[str, Any]:
        """Return a request body that this pipeline accepts."""
        body: dict[str, Any] = {"input_data": ["a moving, funny film", "two hours I want back"]}
        if parameters := self.answers.example():
            body["parameters"] = parameters
        return body


def load_pipeline(folder: Path) -> Pipeline:
    """Return the pipeline that `pipeline.json` and its vocabulary file describe.

    Raises:
        ModelLoadFailed: a file is missing, too big, or says something this version of the code does not know.
    """
    fields = _read_fields(folder / "pipeline.json")
    known = {"kind": "text", "tokenizer": "words"}
    for name, value in known.items():
        _require(fields[name] == value, f"{name} {fields[name]!r} is not supported")
    inputs, labels = fields["inputs"], fields["labels"]
    _require(set(inputs) == {"ids", "lengths"} and _are_texts(inputs.values()), "inputs must name ids and lengths")
    _require(_are_texts(labels), "labels must be texts")
    vocabulary = _read_vocabulary(folder, fields["vocabulary"])
    _require(fields["max_tokens"] >= 1, "max_tokens must be at least 1")
    for name in ("pad_id", "unknown_id"):
        _require(0 <= fields[name] < len(vocabulary), f"{name} is outside the vocabulary")
    return Pipeline(
        vocabulary=vocabulary,
        unknown_id=fields["unknown_id"],
        max_tokens=fields["max_tokens"],
        answers=make_answers(fields["postprocess"], labels),
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
