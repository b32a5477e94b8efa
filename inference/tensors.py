"""Arrays as models take them: ragged rows become padded inputs."""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from inference.errors import ModelLoadFailed


@dataclass(frozen=True, slots=True)
class Collation:
    """How rows of ids become a version's inputs, and which output answers them."""

    ids_input: str
    lengths_input: str
    output: str
    pad_id: int

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the collation that `as_json` described.

        Raises:
            ModelLoadFailed: the description is not one.
        """
        try:
            return cls(**fields)
        except TypeError as error:
            msg = f"not a collation: {error}"
            raise ModelLoadFailed(msg) from error


def pad_rows(flat: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], *, pad_id: int) -> npt.NDArray[np.int64]:
    """Return rows of unequal length as one `(rows, longest)` array, padded at the end.

    Args:
        flat: The rows' ids, one row after the other.
        lengths: `(rows,)`, each >= 1; their sum is the size of `flat`.
        pad_id: What fills the rest of the shorter rows.

    Raises:
        ValueError: the lengths do not describe `flat`. ONNX Runtime's LSTM fails a whole batch
            on a length out of range, so it is found here.
    """
    if lengths.size == 0 or int(lengths.min()) < 1 or int(lengths.sum()) != flat.size:
        msg = f"{lengths.size} lengths do not describe {flat.size} ids"
        raise ValueError(msg)
    longest = int(lengths.max())
    if longest * lengths.size == flat.size:
        return flat.reshape(lengths.size, longest)
    padded = np.full((lengths.size, longest), pad_id, dtype=np.int64)
    padded[np.arange(longest) < lengths[:, None]] = flat
    return padded
