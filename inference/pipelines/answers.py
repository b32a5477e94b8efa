"""From a model's output to what the caller reads: labels with their scores, or plain numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from inference.errors import InvalidInput, ModelFailed, ModelLoadFailed

# Scores are float32, good to about seven digits; more would print noise.
_SCORE_DIGITS: Final = 6
_MAX_LABELS: Final = 10_000
# How far the probabilities of one row may be from summing to 1: float32 over 10,000 labels.
_SUM_TOLERANCE: Final = 1e-3

Parameters: TypeAlias = Mapping[str, Any]
Array: TypeAlias = npt.NDArray[Any]


class Answers(Protocol):
    """One way to turn a version's output into a prediction."""

    @property
    def labels(self) -> Sequence[str]:
        """What may be answered, in the order of the model's output; empty where numbers are."""

    def validate(self, parameters: Parameters) -> None:
        """Refuse parameters that are unknown or out of range with InvalidInput, naming the one at fault."""

    def render(self, output: Array, *, rows: int, parameters: Parameters) -> list[Any]:
        """Return a prediction for each row.

        Args:
            output: What the model gave, first axis = rows.
            rows: How many there must be.
            parameters: What `validate` let pass.

        Raises:
            ModelFailed: the output has another size, or holds what it must not.
        """

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of each parameter by name."""

    def example(self) -> dict[str, Any]:
        """Return parameters that `validate` lets pass."""


@dataclass(frozen=True, slots=True)
class RankedLabels:
    """Labels with their scores, the highest first: `[{"label": "positive", "score": 0.97}, ...]`."""

    labels: Sequence[str]
    score: Callable[[Array], Array]  # `(rows, labels)` to the same, each score from 0 to 1.

    def validate(self, parameters: Parameters) -> None:
        """Take `top_k` and `threshold`."""
        _refuse_unknown(parameters, {"top_k", "threshold"})
        top_k = parameters.get("top_k", 1)
        # True is an int to Python, but not a number to a caller.
        if type(top_k) is not int or not 1 <= top_k <= len(self.labels):
            detail = f"Send a whole number between 1 and {len(self.labels)}."
            raise InvalidInput(param="parameters.top_k", detail=detail, reason="out_of_range")
        threshold = parameters.get("threshold", 0.0)
        if type(threshold) not in {int, float} or not 0 <= threshold <= 1:
            raise InvalidInput(param="parameters.threshold", detail="Send a number from 0 to 1.", reason="out_of_range")

    def render(self, output: Array, *, rows: int, parameters: Parameters) -> list[list[dict[str, str | float]]]:
        """Rank each row's labels; of equal scores the label that is listed first comes first."""
        _check_size(output, rows=rows, numbers=len(self.labels))
        scores = self.score(output.reshape(rows, len(self.labels)))
        _check_scores(scores)
        top_k, threshold = parameters.get("top_k", len(self.labels)), parameters.get("threshold", 0.0)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k].tolist()
        return [
            [{"label": self.labels[place], "score": round(row[place], _SCORE_DIGITS)} for place in places if row[place] >= threshold]
            for places, row in zip(order, scores.tolist(), strict=True)
        ]

    def schema(self) -> dict[str, Any]:
        """Describe `top_k` and `threshold`."""
        return {
            "top_k": {
                "description": "How many labels to return for each row, the likeliest first.",
                "type": "integer",
                "minimum": 1,
                "maximum": len(self.labels),
                "default": len(self.labels),
            },
            "threshold": {
                "description": "The least score of a label that is returned.",
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "default": 0,
            },
        }

    def example(self) -> dict[str, Any]:
        """Ask for the first few."""
        return {"top_k": min(len(self.labels), 3)}


@dataclass(frozen=True, slots=True)
class BinaryLabels(RankedLabels):
    """Two labels and the probability of the second.

    In plain Python: numpy would take 15 us for the one row that most calls have, this takes 2.
    """

    def render(self, output: Array, *, rows: int, parameters: Parameters) -> list[list[dict[str, str | float]]]:
        """Rank each row's labels; at 0.5 the second comes first."""
        _check_size(output, rows=rows, numbers=1)
        top_k, threshold = parameters.get("top_k", 2), parameters.get("threshold", 0.0)
        first, second = self.labels
        answers = []
        for row, probability in enumerate(output.ravel().tolist()):
            if not 0.0 <= probability <= 1.0:  # NaN too: it compares false.
                msg = f"{probability} is not a probability"
                raise ModelFailed(msg, row=row)
            negative: dict[str, str | float] = {"label": first, "score": round(1.0 - probability, _SCORE_DIGITS)}
            positive: dict[str, str | float] = {"label": second, "score": round(probability, _SCORE_DIGITS)}
            ranked = [positive, negative] if probability >= 0.5 else [negative, positive]
            answers.append([answer for answer in ranked[:top_k] if answer["score"] >= threshold] if parameters else ranked)
        return answers


@dataclass(frozen=True, slots=True)
class Numbers:
    """Each row's numbers as the model gave them, or scaled to length 1: values, embeddings."""

    is_normalized: bool
    labels: Sequence[str] = ()

    def validate(self, parameters: Parameters) -> None:
        """Take none."""
        _refuse_unknown(parameters, set())

    def render(self, output: Array, *, rows: int, parameters: Parameters) -> list[Any]:
        """Return nested lists, a row each."""
        del parameters
        if output.ndim == 0 or output.shape[0] != rows:
            msg = f"an output of shape {output.shape} for {rows} rows"
            raise ModelFailed(msg)
        faulty = ~np.isfinite(output.reshape(rows, -1)).all(axis=1)
        if faulty.any():
            msg = "the output holds what is no number"
            raise ModelFailed(msg, row=int(faulty.argmax()))
        if self.is_normalized:
            lengths = np.linalg.norm(output.reshape(rows, -1), axis=1).reshape(rows, *[1] * (output.ndim - 1))
            # A row of zeros has no direction and stays as it is.
            output = output / np.where(lengths == 0, 1, lengths)
        answer: list[Any] = output.tolist()
        return answer

    def schema(self) -> dict[str, Any]:
        """Describe nothing."""
        return {}

    def example(self) -> dict[str, Any]:
        """Ask for nothing in particular."""
        return {}


def make_answers(kind: str, labels: Sequence[str]) -> Answers:
    """Return the way to answer that a pipeline names in `postprocess`.

    Args:
        kind: "binary": the probability of the second of two labels. "probabilities", "softmax": one
            number for each label, as probabilities or before the softmax, of which one label is right.
            "sigmoid": one number for each label before the sigmoid, of which any may be right.
            "values", "embedding": the numbers themselves, the latter scaled to length 1.
        labels: In the order of the model's output; none for values and embeddings.

    Raises:
        ModelLoadFailed: there is no such way, or it takes other labels.
    """
    if kind in {"values", "embedding"}:
        _require(not labels, f"postprocess {kind} takes no labels")
        return Numbers(is_normalized=kind == "embedding")
    _require(kind == "binary" or kind in _SCORES, f"postprocess {kind!r} is not supported")
    _require(len(set(labels)) == len(labels), "a label is named twice")
    if kind == "binary":
        _require(len(labels) == 2, "postprocess binary takes two labels")
        return BinaryLabels(labels=tuple(labels), score=_as_they_are)
    least = 1 if kind == "sigmoid" else 2
    _require(least <= len(labels) <= _MAX_LABELS, f"postprocess {kind} takes {least} to {_MAX_LABELS} labels")
    return RankedLabels(labels=tuple(labels), score=_SCORES[kind])


def _softmax(logits: Array) -> Array:
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))  # No overflow: the highest becomes 1.
    scores: Array = raised / raised.sum(axis=1, keepdims=True)
    return scores


def _sigmoid(logits: Array) -> Array:
    scores: Array = 0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))  # Without overflow at either end.
    return scores


def _as_they_are(probabilities: Array) -> Array:
    sums = probabilities.sum(axis=1, dtype=np.float64)
    faulty = ~(np.abs(sums - 1) <= _SUM_TOLERANCE)  # NaN too: it compares false.
    if faulty.any():
        msg = f"probabilities that sum to {sums[faulty.argmax()]}"
        raise ModelFailed(msg, row=int(faulty.argmax()))
    return probabilities


_SCORES: Final[Mapping[str, Callable[[Array], Array]]] = {
    "softmax": _softmax,
    "sigmoid": _sigmoid,
    "probabilities": _as_they_are,
}


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 (reads as a sentence at its calls)
    if not holds:
        msg = f"pipeline.json: {otherwise}"
        raise ModelLoadFailed(msg)


def _refuse_unknown(parameters: Parameters, known: set[str]) -> None:
    for name in parameters:
        if name not in known:
            raise InvalidInput(param=f"parameters.{name[:80]}", detail="This version has no such parameter.", reason="unknown_parameter")


def _check_size(output: Array, *, rows: int, numbers: int) -> None:
    if output.size != rows * numbers or output.ndim == 0 or output.shape[0] != rows:
        msg = f"an output of shape {output.shape} for {rows} rows of {numbers}"
        raise ModelFailed(msg)


def _check_scores(scores: Array) -> None:
    right = (scores >= 0) & (scores <= 1)  # NaN is neither.
    if not right.all():
        row = int((~right.all(axis=1)).argmax())
        msg = f"{scores[row][~right[row]][0]} is not a probability"
        raise ModelFailed(msg, row=row)
