"""What an engine has done since it started, as plain numbers."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

# Larger batches are counted as of this many rows: a caller chooses the rows of its tensors.
MAX_COUNTED_ROWS: Final = 1_024


@dataclass(slots=True)
class Counters:
    """What has happened since the start."""

    batches: int = 0
    rows: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    failed_rows: int = 0
    retried_rows: int = 0
    batches_by_rows: Counter[int] = field(default_factory=Counter)  # How many batches had so many rows.
