"""Arrays as models take them: ragged rows become padded inputs, and how images do."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from inference.errors import ModelLoadFailed


@dataclass(frozen=True, slots=True)
class Collation:
    """How rows of ids become a version's inputs, and which output answers them."""

    ids_input: str
    lengths_input: str  # INT64 `(rows,)`; "" where a mask tells where each row ends.
    output: str
    pad_id: int
    mask_input: str = ""  # INT64 `(rows, time)`: 1 for an id, 0 for padding; "" for none.
    types_input: str = ""  # INT64 `(rows, time)`, all 0: one text, no second one; "" for none.

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @property
    def inputs(self) -> frozenset[str]:
        """The graph's inputs that it fills: all of them."""
        return frozenset({self.ids_input, self.lengths_input, self.mask_input, self.types_input}) - {""}

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


# A pipeline's row as it is told to the gate's sandboxed process: ids, or an image in base64.
PipelineRow: TypeAlias = list[int] | str

# Colors, and how many numbers a pixel has.
CHANNELS: Final[Mapping[str, int]] = {"gray": 1, "rgb": 3}
# Rows, colors, height and width of the input; `flat` is rows and all else in one, as nhwc has it.
LAYOUTS: Final = frozenset({"nchw", "nhwc", "nhw", "flat"})
# To the size wanted: as it fits, the sides each by their own; or by the shorter side, and the middle of it.
RESIZES: Final = frozenset({"stretch", "crop"})
# A file, and its pixels: 16 million are a good camera's, and 50 MB while they are decoded.
MAX_IMAGE_BYTES: Final = 4 * 2**20
MAX_PIXELS: Final = 2**24
# All images of a call: 0.4 s of decoding. A body of 4 MB holds about as many pixels of photographs; of flat colors it could hold thirty times more.
MAX_CALL_PIXELS: Final = 2**25
# What counts as one step of a row's length: 12 ms of decoding, so that large images wait for each other and small ones for neither.
PIXELS_PER_STEP: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCollation:
    """How image files become a version's input, and which output answers them: (pixel / scale - mean) / std."""

    image_input: str
    output: str
    channels: int
    height: int
    width: int
    resize: str
    layout: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @property
    def inputs(self) -> frozenset[str]:
        """The graph's inputs that it fills: all of them."""
        return frozenset({self.image_input})

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the collation that `as_json` described.

        Raises:
            ModelLoadFailed: the description is not one.
        """
        try:
            return cls(**fields | {"mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
        except (KeyError, TypeError) as error:
            msg = f"not an image collation: {error}"
            raise ModelLoadFailed(msg) from error


def collation_from_json(fields: dict[str, Any]) -> Collation | ImageCollation:
    """Return the collation of whichever kind that `as_json` described.

    Raises:
        ModelLoadFailed: the description is not one.
    """
    return ImageCollation.from_json(fields) if "image_input" in fields else Collation.from_json(fields)


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
