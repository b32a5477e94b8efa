"""Why a recipe stopped: one class per reason, with its facts."""


class TrainingError(Exception):
    """A recipe that could not finish. Nothing was written to its output folder."""

    code = "training_error"


class SourceUnavailable(TrainingError):
    """A pinned package could not be fetched, or is not the one that was pinned."""

    code = "source_unavailable"

    def __init__(self, requirement: str, detail: str) -> None:
        super().__init__(f"{requirement} could not be fetched: {detail}")
        self.requirement = requirement
        self.detail = detail


class DataUnreadable(TrainingError):
    """A data set is not in the format that its reader knows."""

    code = "data_unreadable"

    def __init__(self, source: str, detail: str) -> None:
        super().__init__(f"{source}: {detail}")
        self.source = source
        self.detail = detail


class ParityBroken(TrainingError):
    """The exported model answers differently from the one that was trained."""

    code = "parity_broken"

    def __init__(self, *, artifact: str, difference: float, tolerance: float) -> None:
        super().__init__(f"{artifact} differs by {difference:.2e}, more than {tolerance:.0e}")
        self.artifact = artifact
        self.difference = difference
        self.tolerance = tolerance


class ArtifactTooLarge(TrainingError):
    """The artifacts together are over what every clone of the repository should pay."""

    code = "artifact_too_large"

    def __init__(self, *, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"the artifacts are {size_bytes} bytes together; at most {limit_bytes} are allowed")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
