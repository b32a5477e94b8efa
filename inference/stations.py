"""Workers as the dispatcher sees them, and what each has to run."""

import asyncio
from dataclasses import dataclass, field

from inference.queueing import Row, RowQueue, Runner


@dataclass(slots=True, eq=False)
class Batch:
    """Rows that were sent together."""

    queue: RowQueue
    tag: int
    provider: str
    rows: list[Row]
    size: int  # Rows of the model's batch: of calls with tensors, all of their rows.


@dataclass(slots=True, eq=False)
class Station:
    """A worker as the dispatcher sees it."""

    runner: Runner
    serves: dict[str, str] = field(default_factory=dict)  # Version key -> provider.
    # One at a time. A second batch in its socket would hide the gateway's hop, but leaves fewer rows to
    # choose from: measured with 32 callers, it made no difference to calls/s and padded more.
    running: Batch | None = None
    loading: int = 0  # While it loads a model, batches would wait for the load.
    batches: int = 0
    timer: asyncio.TimerHandle | None = None
