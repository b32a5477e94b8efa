"""Which elements moved a prediction: each is left out in turn, and the score compared. Pure.

Leave-one-out (Li, Monroe, Jurafsky: "Understanding Neural Networks through Representation Erasure", 2016,
section 2): an element's attribution is the score of the whole less the score without it. All rows of
one explanation are run together, as any rows are. It tells of one element at a time: of two words that
say the same, neither is missed alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def without_each_id(ids: npt.NDArray[np.int64], *, filler: int) -> list[npt.NDArray[np.int64]]:
    """Return the row itself, then the row without each of its ids in turn.

    Args:
        ids: `(time,)`, at least one.
        filler: Stands for the only id of a row of one, since no row may be empty.
    """
    if ids.size == 1:
        return [ids, np.array([filler], dtype=np.int64)]
    return [ids, *(np.delete(ids, place) for place in range(ids.size))]


def without_each_feature(features: npt.NDArray[Any], baseline: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return `(features + 1, features)`: the row itself, then the row with each feature at its baseline in turn.

    Args:
        features: `(features,)`.
        baseline: The same shape: what a feature is when it says nothing.
    """
    rows = np.tile(features, (features.size + 1, 1))
    places = np.arange(features.size)
    rows[places + 1, places] = baseline
    return rows


def attributions(scores: Sequence[float]) -> list[float]:
    """Return each element's attribution; positive ones speak for what was scored.

    Args:
        scores: Of the whole, then without each element in turn.
    """
    whole = scores[0]
    return [whole - score for score in scores[1:]]
