"""How far two answers of a model are apart, and how long it took for them. Pure but for `summarize`'s numbers."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Outputs: TypeAlias = Sequence[Any]


def difference(first: Outputs, second: Outputs) -> float:
    """Return the largest difference, relative to each output's largest value (but at least 1); infinite where they differ in kind.

    So of probabilities it is absolute, and of logits of some hundreds a share. Numbers that are not
    fractions, texts and structures must be equal.
    """
    if len(first) != len(second):
        return math.inf
    return max((_output_difference(one, other) for one, other in zip(first, second, strict=True)), default=0.0)


def _output_difference(first: Any, second: Any) -> float:
    if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray):
        return _structure_difference(first, second)
    if first.shape != second.shape or first.dtype != second.dtype:
        return math.inf
    if first.dtype.kind != "f":
        return 0.0 if np.array_equal(first, second) else math.inf
    return _float_difference(first.astype(np.float64), second.astype(np.float64))


def _float_difference(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    if not first.size:
        return 0.0
    odd = ~np.isfinite(first)
    if not np.array_equal(first[odd], second[odd], equal_nan=True):  # NaN and Infinity must stand where they stood.
        return math.inf
    plain, other = first[~odd], second[~odd]
    if not plain.size:
        return 0.0
    gap = float(np.abs(plain - other).max())
    return math.inf if math.isnan(gap) else gap / max(1.0, float(np.abs(plain).max()))


def _structure_difference(first: Any, second: Any) -> float:
    """Compare sequences and maps (ZipMap's) by their parts."""
    if type(first) is not type(second):
        return math.inf
    if isinstance(first, list):
        return difference(first, second)
    if isinstance(first, dict):
        return difference([first[key] for key in first], [second.get(key) for key in first]) if first.keys() == second.keys() else math.inf
    if isinstance(first, float):
        return _float_difference(np.array([first]), np.array([second]))
    return 0.0 if first == second else math.inf


def has_nan(outputs: Outputs) -> bool:
    """Whether an answer holds NaN or Infinity, which JSON cannot carry."""
    return any(isinstance(one, np.ndarray) and one.dtype.kind == "f" and not bool(np.isfinite(one).all()) for one in outputs)


def percentile(seconds: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values do not exceed (nearest rank), in milliseconds."""
    ordered = sorted(seconds)
    return round(1000 * ordered[max(0, math.ceil(share * len(ordered)) - 1)], 3)


def cut_outputs(outputs: Outputs, rows: int, start: int, stop: int) -> list[Any] | None:
    """Return the answer to some rows of a batch; None where an output has not one entry per row."""
    cut = []
    for one in outputs:
        if (isinstance(one, np.ndarray) and one.ndim and one.shape[0] == rows) or (isinstance(one, list) and len(one) == rows):
            cut.append(one[start:stop])
        else:
            return None
    return cut
