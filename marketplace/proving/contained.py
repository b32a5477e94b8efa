"""Promise 10: a model reaches no file, no network and nobody else's memory, and takes down nobody but itself.

A process in the sandbox that models run in tries to leave it in every way we know; then hostile models go through the
gate, each in that sandbox, and are refused while we live on.
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from inference import landlock
from inference.gate.examine import examine
from inference.gate.limits import GateLimits
from marketplace.proving import hostile
from marketplace.proving.findings import Untried, require
from marketplace.proving.intruder import enter_sandbox

# What the intruder must not have done, by the names of its attempts.
_FORBIDDEN: Final = (
    "read a file", "read a relative file", "read a file above", "list the root", "write a file", "write a file here", "make a folder",
    "use an inherited descriptor", "start a program", "map memory",
)  # fmt: skip
_LIMITS: Final = GateLimits(wall_s=10, run_s=3, memory_bytes=2 * 2**30)
_LONGEST_S: Final = 90
_MODELS: Final = {
    "reads a file of ours as its weights": hostile.outside_in_initializer,
    "asks for 186 GB": hostile.asks_for_186_gb_when_run,
    "loops for ever": hostile.loops_for_ever,
    "ends its process": hostile.crashes,
}
TRIED: Final = f"{len(_FORBIDDEN) + 3} ways out of the sandbox; {len(_MODELS)} hostile models through the gate: {', '.join(_MODELS)}"


def check_outcome(outcome: Mapping[str, Any]) -> int:
    """See that the intruder got nowhere; return in how many ways.

    Raises:
        Broken: with what it could do.
        Untried: this kernel has no way to keep connections away, which `manage.py check` warns of.
    """
    done = [attempt for attempt in _FORBIDDEN if outcome[attempt] == "done"]
    require(not done, f"a process in the sandbox could: {', '.join(done)}")
    require(not outcome["environment"], f"it sees the environment: {', '.join(outcome['environment'])}")
    require((outcome["no_new_privs"], outcome["dumpable"]) == (1, 0), "it may gain rights, or have its memory read by others of its user")
    report = outcome["report"]
    if not ((report["landlock_abi"] or 0) >= 4 or report["own_network"]):
        message = "Nothing keeps connections away here: the kernel's Landlock knows no network, and this is not root. All else held."
        raise Untried(message)
    require(outcome["connect"] != "done", "a process in the sandbox could connect")
    return len(_FORBIDDEN) + 3


def _refuse_all() -> float:
    """Have the gate examine each hostile model; return how long the longest took in seconds."""
    longest = 0.0
    for name, build in _MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "model.onnx").write_bytes(build().SerializeToString())
            began = time.monotonic()
            report = examine(Path(folder), limits=_LIMITS).report
            longest = max(longest, time.monotonic() - began)
        require(not report.passed, f"the gate passed a model that {name}")
    require(longest < _LONGEST_S, f"a model kept the gate busy for {longest:.0f} s")
    return longest


def prove() -> str:
    """Try it; return what was seen."""
    if landlock.find_abi() is None:
        message = "This kernel has no Landlock: models of others are refused here, and those of the operator run without it."
        raise Untried(message)
    with tempfile.TemporaryDirectory() as folder:
        ways = check_outcome(enter_sandbox(Path(folder)))
    longest = _refuse_all()
    return f"0 of {ways} ways led out; {len(_MODELS)} of {len(_MODELS)} models refused, the longest after {longest:.0f} s"
