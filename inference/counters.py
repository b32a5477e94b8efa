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


@dataclass(slots=True)
class VersionFigures:
    """One version, since the engine's start; it outlives being unloaded."""

    calls: int = 0
    batches: int = 0
    rows: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    failed_rows: int = 0
    loads: int = 0
    evictions: int = 0  # For the room of others, or for not being called.
    load_s: float = 0.0  # The newest load on one worker, warm-up included.
    memory_bytes: int = 0  # What it added to a worker's resident memory, or its file's size where that is more.
    nodes: int = 0  # Of its graph, as the newest load placed them.
    cpu_nodes: int = 0  # Those of them on the CPU: with a GPU, the ones that it does not have a kernel for or that compute shapes.
    used_at: float = 0.0  # Seconds of `perf_counter`: the newest call, or the load.
    loading_calls: int = 0  # That wait for it to be loaded.
