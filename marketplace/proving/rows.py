"""What the command prints of each promise: a row, made where it was tried and read where it is shown."""

import enum
import json
import time
import traceback
from dataclasses import asdict, dataclass
from typing import Any, Self

from marketplace.proving.findings import Broken, Untried
from marketplace.proving.promises import PROMISES, Promise


class Verdict(enum.StrEnum):
    """What became of a promise."""

    KEPT = "kept"
    FAILED = "FAILED"
    UNTRIED = "not tried"  # Which is never counted as kept.


@dataclass(frozen=True, slots=True)
class Row:
    """One promise: what was tried, what was seen, and what that comes to."""

    number: int
    promise: str
    tried: str
    seen: str
    verdict: Verdict
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {**asdict(self), "seconds": round(self.seconds, 1)}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `render` of another process wrote."""
        told = json.loads(text)
        return cls(**{**told, "verdict": Verdict(told["verdict"])})

    def render(self) -> str:
        """Return it as one line, as a table's row."""
        took = f"{self.seconds:.0f} s"
        return f"{self.number:>2} | {self.promise} | {self.tried} | {self.seen} | {self.verdict} ({took})"


def untried(promise: Promise, why: str, *, seconds: float = 0.0) -> Row:
    """Return the row of a promise that could not be tried."""
    return Row(promise.number, promise.says, promise.tried, why, Verdict.UNTRIED, seconds)


def try_here(number: int) -> Row:
    """Try to break a promise in this process, on the database that it is connected to; return its row.

    What breaks the attempt itself says nothing about the promise: it was not tried then.
    """
    promise, began = PROMISES[number], time.monotonic()
    try:
        seen, verdict = promise.prove(), Verdict.KEPT
    except Broken as broken:
        seen, verdict = str(broken), Verdict.FAILED
    except Untried as why:
        seen, verdict = str(why), Verdict.UNTRIED
    except Exception as error:  # noqa: BLE001 (whatever it is, the row says so)
        traceback.print_exc()
        seen, verdict = f"the attempt itself ended with {type(error).__name__}: {error}", Verdict.UNTRIED
    return Row(number, promise.says, promise.tried, " ".join(seen.split())[:600], verdict, time.monotonic() - began)
