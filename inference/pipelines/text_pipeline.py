"""The text pipeline of a version: from a caller's text to rows of ids, by a tokenizer and a vocabulary file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.errors import InvalidInput
from inference.files import read_text
from inference.pipelines.answers import make_answers
from inference.pipelines.base import Pipeline, Prepared, are_texts, check_fields, examples_of, require
from inference.pipelines.text import SPANS, TOKENIZERS, WordSpan, token_ids
from inference.tensors import Collation

_FIELDS: Final[Mapping[str, type | tuple[type, ...]]] = {
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
_INPUTS: Final = ({"ids", "lengths"}, {"ids", "mask"}, {"ids", "mask", "types"})
TEXT_EXAMPLE: Final = ("a moving, funny film", "two hours I want back")
# 64 MB of vocabulary is some 8 million words; a bigger file is not one.
_MAX_VOCABULARY_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class TextPipeline(Pipeline):
    """From a caller's text to rows of ids: a tokenizer and its vocabulary."""

    vocabulary: Mapping[str, int] = field(repr=False)
    tokenizer: str
    unknown_id: int
    max_tokens: int
    texts: Collation

    @property
    def collation(self) -> Collation:
        """How a worker makes the graph's inputs of rows of ids."""
        return self.texts

    def prepare(self, input_data: object, *, max_rows: int, max_characters: int) -> Prepared:
        """Return the rows of one text or of a list of texts; what is beyond `max_tokens` is cut off."""
        split = TOKENIZERS[self.tokenizer]

        def ids_of(text: str) -> list[int]:
            return token_ids(text, self.vocabulary, split=split, unknown_id=self.unknown_id, max_tokens=self.max_tokens)

        return prepare_texts(input_data, ids_of, tokens=self.tokenizer, max_rows=max_rows, max_characters=max_characters)

    def spans(self, text: str) -> list[WordSpan]:
        """Return a text's tokens, in order, with their places in it."""
        return SPANS[self.tokenizer](text)

    def schema_of_input(self) -> dict[str, Any]:
        """Describe a text, or a list of texts."""
        return text_schema(f"Each is read up to its first {self.max_tokens} {self.tokenizer}.")

    def example_input(self) -> list[str]:
        """Return two short texts."""
        return list(TEXT_EXAMPLE)


def prepare_texts(input_data: object, ids_of: Callable[[str], list[int]], *, tokens: str, max_rows: int, max_characters: int) -> Prepared:
    """Return the rows of one text or of a list of texts.

    Args:
        input_data: As the caller sent it.
        ids_of: What makes ids of a text; none where there is nothing in it.
        tokens: What they stand for: "words".
        max_rows: Most texts in one call.
        max_characters: Most characters in one call, all texts together.

    Raises:
        InvalidInput: naming the element at fault.
    """
    texts, single = examples_of(input_data, str, what="a text", max_rows=max_rows)
    rows: list[npt.NDArray[Any]] = []
    characters = sent = 0
    for position, text in enumerate(texts):
        param = "input_data" if single else f"input_data[{position}]"
        if not isinstance(text, str):
            raise InvalidInput(param, "This is not a text.", reason="wrong_type")
        characters += len(text)
        if characters > max_characters:
            raise InvalidInput(param, f"A call may hold {max_characters} characters in all.", reason="too_many_characters")
        ids = ids_of(text)
        if not ids:
            raise InvalidInput(param, f"This text has no {tokens}.", reason="empty_text")
        sent += len(ids)
        rows.append(np.array(ids, dtype=np.int64))
    return Prepared(rows, single, sent)


def make_text_pipeline(folder: Path, fields: Mapping[str, Any]) -> TextPipeline:
    """Return the pipeline that the fields of `pipeline.json` and the vocabulary file beside it describe.

    Raises:
        ModelLoadFailed: a file is missing, too big, or says something this version of the code does not know.
    """
    check_fields(fields, _FIELDS)
    require(fields["tokenizer"] in TOKENIZERS, f"tokenizer {fields['tokenizer']!r} is not supported")
    labels = fields["labels"]
    require(are_texts(labels), "labels must be texts")
    vocabulary = _read_vocabulary(folder, fields["vocabulary"])
    require(fields["max_tokens"] >= 1, "max_tokens must be at least 1")
    for name in ("pad_id", "unknown_id"):
        require(0 <= fields[name] < len(vocabulary), f"{name} is outside the vocabulary")
    return TextPipeline(
        vocabulary=vocabulary,
        tokenizer=fields["tokenizer"],
        unknown_id=fields["unknown_id"],
        max_tokens=fields["max_tokens"],
        answers=make_answers(fields["postprocess"], labels),
        texts=make_collation(fields),
    )


def make_collation(fields: Mapping[str, Any]) -> Collation:
    """Return how rows of ids become the inputs that the fields of `pipeline.json` name.

    Raises:
        ModelLoadFailed: nothing in them tells the graph where a row ends.
    """
    inputs = fields["inputs"]
    require(
        set(inputs) in _INPUTS and are_texts(inputs.values()), "inputs must name ids and lengths, or ids and mask, or ids, mask and types"
    )
    require(len(set(inputs.values())) == len(inputs), "inputs must name each of the graph's once")
    return Collation(
        ids_input=inputs["ids"],
        lengths_input=inputs.get("lengths", ""),
        output=fields["output"],
        pad_id=fields["pad_id"],
        mask_input=inputs.get("mask", ""),
        types_input=inputs.get("types", ""),
    )


def text_schema(told: str) -> dict[str, Any]:
    """Return the JSON Schema of a text, or a list of texts."""
    text = {"type": "string", "minLength": 1}
    return {"description": f"One text, or a list of texts. {told}", "oneOf": [text, {"type": "array", "minItems": 1, "items": text}]}


def _read_vocabulary(folder: Path, name: str) -> dict[str, int]:
    """Return token -> id; the id is the line's number, from 0."""
    # The file lies beside pipeline.json: a path would let an upload read the operator's files.
    require(Path(name).name == name, f"vocabulary {name!r} is not a file name")
    lines = read_text(folder / name, limit_bytes=_MAX_VOCABULARY_BYTES).split("\n")
    if lines[-1] == "":
        del lines[-1]
    vocabulary = {token: number for number, token in enumerate(lines)}
    require(len(vocabulary) == len(lines), f"{name} names a token twice")
    return vocabulary
