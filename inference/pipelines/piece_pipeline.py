"""The text pipeline of an encoder: texts to word pieces by a `tokenizer.json`, with the special ids around them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from inference.errors import ModelLoadFailed
from inference.files import read_text
from inference.pipelines.answers import make_answers
from inference.pipelines.base import Pipeline, Prepared, are_texts, check_fields, require
from inference.pipelines.text_pipeline import TEXT_EXAMPLE, make_collation, prepare_texts, text_schema
from inference.pipelines.wordpiece import WordPiece, read_wordpiece
from inference.tensors import Collation

TOKENIZER_FILE: Final = "tokenizer.json"
_FIELDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "kind": str,
    "tokenizer": str,
    "pad_id": int,
    "max_tokens": int,
    "inputs": dict,
    "output": str,
    "postprocess": str,
    "labels": list,
}
# A vocabulary of a million pieces has some 30 MB.
_MAX_TOKENIZER_BYTES: Final = 32 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class PiecePipeline(Pipeline):
    """From a caller's text to rows of ids of word pieces."""

    tokenizer: WordPiece
    max_tokens: int
    texts: Collation

    @property
    def collation(self) -> Collation:
        """How a worker makes the graph's inputs of rows of ids."""
        return self.texts

    def prepare(self, input_data: object, *, max_rows: int, max_characters: int) -> Prepared:
        """Return the rows of one text or of a list of texts; pieces beyond `max_tokens`, special ones counted, are cut off."""

        def ids_of(text: str) -> list[int]:
            return self.tokenizer.ids(text, max_tokens=self.max_tokens)

        return prepare_texts(input_data, ids_of, tokens="words", max_rows=max_rows, max_characters=max_characters)

    def schema_of_input(self) -> dict[str, Any]:
        """Describe a text, or a list of texts."""
        return text_schema(f"Each is read up to its first {self.max_tokens} word pieces.")

    def example_input(self) -> list[str]:
        """Return two short texts."""
        return list(TEXT_EXAMPLE)


def make_piece_pipeline(folder: Path, fields: Mapping[str, Any]) -> PiecePipeline:
    """Return the pipeline that the fields of `pipeline.json` and the tokenizer beside it describe.

    Raises:
        ModelLoadFailed: a file is missing, too big, or says something this version of the code does not know.
    """
    check_fields(fields, _FIELDS)
    try:
        described = json.loads(read_text(folder / TOKENIZER_FILE, limit_bytes=_MAX_TOKENIZER_BYTES))
    except (ValueError, RecursionError) as error:
        msg = f"{TOKENIZER_FILE} is not JSON: {error}"
        raise ModelLoadFailed(msg) from error
    require(isinstance(described, dict), f"{TOKENIZER_FILE} must be an object")
    tokenizer = read_wordpiece(described)
    require(are_texts(fields["labels"]), "labels must be texts")
    require(fields["pad_id"] >= 0, "pad_id must be an id")
    framed = len(tokenizer.before) + len(tokenizer.after)
    require(fields["max_tokens"] > framed, f"max_tokens must leave room beside {framed} special ids")
    return PiecePipeline(
        answers=make_answers(fields["postprocess"], fields["labels"]),
        tokenizer=tokenizer,
        max_tokens=fields["max_tokens"],
        texts=make_collation(fields),
    )
