"""What a model may be at most. Every number here is in a refusal's text, so that the provider learns it."""

from dataclasses import asdict, dataclass
from typing import Any, Final, Self

# Raised when a check is added or sharpened: a report says which gate wrote it.
GATE_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimits:
    """Bounds of one examination."""

    max_bytes: int = 200 * 2**20
    max_nodes: int = 20_000  # Also after every call of a model-local function is replaced by the function's body.
    max_functions: int = 256
    max_depth: int = 8  # Graphs inside graphs: Loop, If, Scan and functions.
    max_rank: int = 8
    max_elements: int = 2**28  # Of one tensor: 1 GB of float32.
    max_tensors: int = 64  # Inputs, and outputs: what one message to a worker carries.
    max_name_characters: int = 256
    min_opset: int = 7
    max_opset: int = 26  # ONNX Runtime 1.31 knows none newer.
    max_samples: int = 64
    # Address space of the process that runs it: ONNX Runtime with a 20 MB model maps 0.4 GB.
    memory_bytes: int = 4 * 2**30
    # Seconds for everything; then SIGKILL. RunOptions.terminate does not stop one large MatMul.
    wall_s: float = 120.0
    # Longest one run may take, as in the engine: a batch beyond it costs a worker.
    run_s: float = 10.0
    # Largest difference between a row alone and in a padded batch, relative to the largest value (at least 1).
    # float32 sums in another order differ by some 1e-6; a model that reads its padding by 1e-2 and more.
    parity_tolerance: float = 1e-4

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the limits that `as_json` described."""
        return cls(**fields)
