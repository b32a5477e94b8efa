"""What every pipeline does, whatever it takes: prepares rows, and makes predictions of the model's output."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.errors import InvalidInput, ModelLoadFailed
from inference.pipelines.answers import Answers
from inference.tensors import Collation, ImageCollation


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call's rows, ready for the queue: of texts, an int64 array of ids each; of images, their file as uint8 `(megapixels, bytes)`."""

    rows: list[npt.NDArray[Any]]
    single: bool  # The caller sent one example, not a list.
    tokens: int  # Ids that will be sent to the model, padding not counted, or images: what the caller is billed for.


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline(ABC):
    """The pipeline of one version: data, never code."""

    answers: Answers

    @property
    @abstractmethod
    def collation(self) -> Collation | ImageCollation:
        """How a worker makes the graph's inputs of rows."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels it may answer with, in the order of the model's output; none if it answers with numbers."""
        return self.answers.labels

    @abstractmethod
    def prepare(self, input_data: object, *, max_rows: int, max_characters: int) -> Prepared:
        """Return the rows of one example or of a list of them.

        Args:
            input_data: As the caller sent it.
            max_rows: Most examples in one call.
            max_characters: Most characters of text in one call, all examples together.

        Raises:
            InvalidInput: naming the element at fault.
        """

    @abstractmethod
    def schema_of_input(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of a request's `input_data`."""

    @abstractmethod
    def example_input(self) -> list[str]:
        """Return an `input_data` that this pipeline accepts."""

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
                "input_data": self.schema_of_input(),
                "parameters": {"type": "object", "properties": self.answers.schema(), "additionalProperties": False},
            },
            "required": ["input_data"],
        }

    def example(self) -> dict[str, Any]:
        """Return a request body that this pipeline accepts."""
        body: dict[str, Any] = {"input_data": self.example_input()}
        if parameters := self.answers.example():
            body["parameters"] = parameters
        return body


def examples_of(input_data: object, kinds: type | tuple[type, ...], *, what: str, max_rows: int) -> tuple[list[Any], bool]:
    """Return a call's examples, and whether it sent one that was no list.

    Raises:
        InvalidInput: it is neither, or they are too many.
    """
    single = isinstance(input_data, kinds)
    examples = [input_data] if single else input_data
    if not isinstance(examples, list):
        raise InvalidInput(param="input_data", detail=f"Send {what} or a list of them.", reason="wrong_type")
    if not 1 <= len(examples) <= max_rows:
        detail = f"Send between 1 and {max_rows}; this call has {len(examples)}."
        raise InvalidInput(param="input_data", detail=detail, reason="wrong_row_count")
    return examples, single


def require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 (reads as a sentence at its calls)
    """Refuse a pipeline that does not hold to what it may say.

    Raises:
        ModelLoadFailed: it does not.
    """
    if not holds:
        msg = f"pipeline.json: {otherwise}"
        raise ModelLoadFailed(msg)


def check_fields(fields: Mapping[str, Any], kinds: Mapping[str, type | tuple[type, ...]]) -> None:
    """Refuse fields that are not these, no more and no less: a misspelt one would otherwise be ignored.

    Raises:
        ModelLoadFailed: they differ.
    """
    require(set(fields) == set(kinds), f"the fields must be {sorted(kinds)}")
    for name, kind in kinds.items():
        kinds_of = kind if isinstance(kind, tuple) else (kind,)
        require(type(fields[name]) in kinds_of, f"{name} must be a {' or '.join(one.__name__ for one in kinds_of)}")


def are_texts(values: Iterable[object]) -> bool:
    """Whether all of these are texts, and none is empty."""
    return all(isinstance(value, str) and value for value in values)


def row_of(content: bytes, *, length: int) -> npt.NDArray[np.uint8]:
    """Return a file as a row for the queue, `(length, bytes)`: batches are cut by length, which says here what decoding it costs.

    Zeros fill the last line: no picture ends before them.
    """
    return np.frombuffer(content + bytes(-len(content) % length), dtype=np.uint8).reshape(length, -1)
