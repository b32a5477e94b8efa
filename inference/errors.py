"""Why a call was not answered: one class per refusal, with its facts. No HTTP here."""

from typing import ClassVar


class InferenceError(Exception):
    """A call, or a load, that inference refused or could not finish."""

    code: ClassVar[str] = "inference_error"


class InvalidInput(InferenceError):
    """The caller's input cannot be prepared for this version. Nothing was queued.

    `param` is the path of the culprit ("input_data[3]"), `detail` a sentence for the caller and
    `reason` a stable word for the caller's program, finer than `code`.
    """

    code: ClassVar[str] = "invalid_input"

    def __init__(self, param: str, detail: str, *, reason: str = "invalid_input") -> None:
        super().__init__(f"{param}: {detail}")
        self.param = param
        self.detail = detail
        self.reason = reason


class QueueFull(InferenceError):
    """More rows wait than the queue may hold. Nothing of the call was queued."""

    code: ClassVar[str] = "queue_full"

    def __init__(self, *, waiting_rows: int, max_queue_rows: int, retry_after_s: float) -> None:
        super().__init__(f"{waiting_rows} of {max_queue_rows} rows are waiting")
        self.waiting_rows = waiting_rows
        self.max_queue_rows = max_queue_rows
        self.retry_after_s = retry_after_s


class DeadlineExceeded(InferenceError):
    """The deadline passed first. `started` says whether any row of the call had been sent to a worker."""

    code: ClassVar[str] = "deadline_exceeded"

    def __init__(self, *, started: bool) -> None:
        super().__init__("the deadline passed while " + ("running" if started else "queued"))
        self.started = started


class ModelFailed(InferenceError):
    """The model ran and failed on this row, or answered with something that is no answer.

    `detail` may name tensors and nodes of the model: it is for the log, not for the caller.
    """

    code: ClassVar[str] = "model_failed"

    def __init__(self, detail: str, *, row: int | None = None) -> None:
        super().__init__(detail if row is None else f"row {row}: {detail}")
        self.detail = detail
        self.row = row


class ModelLoadFailed(InferenceError):
    """The version's artifact cannot be served: missing, changed, malformed, or refused by ONNX Runtime."""

    code: ClassVar[str] = "model_load_failed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class WorkerLost(InferenceError):
    """A worker process died, or was killed for hanging, twice on this call."""

    code: ClassVar[str] = "worker_lost"


class EngineStopping(InferenceError):
    """The engine is shutting down (or has not been started). Nothing was queued, or the queue was given up."""

    code: ClassVar[str] = "engine_stopping"
