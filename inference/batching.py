"""Which waiting rows run together. Pure: no clock, no queue, no sockets.

ONNX Runtime's LSTM computes padding in full, so a batch costs about longest x (step + rows): each
time step has a fixed part, `step_rows`, and a part for every row. Running rows together
saves the fixed part and pays for padding.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Bounds of one batch."""

    max_rows: int = 32
    # Rows x longest; a row longer than this runs alone.
    max_tokens: int = 4_096
    # What a time step costs beside its rows, in rows. Measured on the flagship LSTM: 41 us and 50 us a row.
    step_rows: float = 0.8

    def __post_init__(self) -> None:
        """Refuse limits under which nothing could run."""
        if self.max_rows < 1 or self.max_tokens < 1 or self.step_rows < 0:
            msg = f"no batch fits {self}"
            raise ValueError(msg)


def next_batch(lengths: Sequence[int], opener: int, limits: BatchLimits) -> slice:
    """Choose the rows that run with the opener: its neighbours in length, while each saves more than it pads.

    Args:
        lengths: The waiting rows' lengths, ascending.
        opener: The position of the row that must leave now.
        limits: Bounds; padded tokens stay within `max_tokens` unless the opener alone exceeds it.

    Returns:
        The positions that leave together; the opener is among them.
    """
    first = last = opener
    longest = lengths[opener]
    fixed = limits.step_rows
    while (rows := last - first + 1) < limits.max_rows:
        # What the batch would cost more than now, less what the row would cost alone: negative is a gain.
        below = above = 0.0
        if first > 0 and longest * (rows + 1) <= limits.max_tokens:
            below = longest - lengths[first - 1] * (fixed + 1)
        if last + 1 < len(lengths):
            longer = lengths[last + 1]
            if longer * (rows + 1) <= limits.max_tokens:
                above = (longer - longest) * (fixed + rows) - longer * fixed
        if below >= 0 and above >= 0:
            break
        if below < above:
            first -= 1
        else:
            last += 1
            longest = lengths[last]
    return slice(first, last + 1)
