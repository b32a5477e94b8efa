"""The gate's sandboxed process: `python -m inference.gate.child <fd> <settings as JSON>`.

It is given one task over its one socket and answers with messages as it goes, so that whoever
waits knows which stage it hung or died in. The three tasks run in three processes: what is said of
the graph is said by one in which the model never ran.
"""

import json
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from inference import sandbox
from inference.gate.limits import GateLimits
from inference.gate.messages import Link
from inference.gate.report import Check, failed, passed, skipped, warned
from inference.tensors import Collation, ImageCollation, collation_from_json


def main(arguments: list[str]) -> None:
    """Do the one task and end."""
    fd, settings = int(arguments[0]), json.loads(arguments[1])
    sandbox.detach(parent_pid=settings["parent_pid"])
    task = _TASKS[settings["task"]]()  # Imports what it needs: there are no files later.
    sock = socket.socket(fileno=fd)
    sock.setblocking(True)
    report = sandbox.enter(keep_fd=fd, index=settings["index"], memory_bytes=settings["memory_bytes"], cuda=False)
    link = Link(sock)
    question, blobs = link.receive_all()
    check = _sandbox_check(report, trusted=bool(settings["trusted"]))
    link.send({"check": check.as_json()})
    if check.outcome != "failed":
        task(link, question, blobs, GateLimits.from_json(question["limits"]))
    link.send({"end": True})


def _sandbox_check(report: sandbox.SandboxReport, *, trusted: bool) -> Check:
    if report.landlock_abi is not None:
        own = f", own user {report.own_uid}, own network {'yes' if report.own_network else 'no'}" if report.own_uid else ""
        return passed("sandbox", f"Examined without files or network (Landlock ABI {report.landlock_abi}{own}).")
    if trusted:
        return warned("sandbox", "This kernel has no Landlock: only the operator's own models are examined and run here.")
    return failed("sandbox", "This site's kernel has no Landlock, so models of others are neither examined nor run.")


Task = Callable[[Link, dict[str, Any], dict[str, bytes], GateLimits], None]


def _graph_task() -> Task:
    from inference.gate import graph  # noqa: PLC0415 (only this task reads protobuf)

    def run(link: Link, _question: dict[str, Any], blobs: dict[str, bytes], limits: GateLimits) -> None:
        link.send({"stage": "graph"})
        _tell(link, graph.check_graph(blobs["model"], limits))

    return run


def _probe_task() -> Task:
    from inference.gate import probe  # noqa: PLC0415 (0.3 s of ONNX Runtime, in which the parent may die)

    def run(link: Link, question: dict[str, Any], blobs: dict[str, bytes], limits: GateLimits) -> None:
        try:
            one = probe.Probe(blobs["model"], collation=_collation(question), limits=limits, enter=lambda name: link.send({"stage": name}))
            _tell(link, one.examine(blobs.get("samples"), question["rows"]))
        except probe.Stop as stop:
            link.send({"check": stop.check.as_json()})
        else:
            link.send({"figures": one.figures})

    return run


def _int8_task() -> Task:
    from inference import quantize  # noqa: PLC0415 (0.4 s, and it reads files)
    from inference.gate import probe  # noqa: PLC0415 (the same)

    def run(link: Link, question: dict[str, Any], blobs: dict[str, bytes], limits: GateLimits) -> None:
        link.send({"stage": "int8"})
        try:
            made = quantize.quantize_dynamic(blobs["model"])
        except Exception as error:  # noqa: BLE001 (the tools raise anything on a graph they cannot follow)
            link.send({"check": skipped("int8", f"It cannot be quantized: {str(error)[:200]}").as_json()})
            return
        if made is None:
            link.send({"check": skipped("int8", "It has nothing that quantization would make smaller.").as_json()})
            return
        opened = [
            probe.Probe(model, collation=_collation(question), limits=limits, enter=lambda _: None) for model in (blobs["model"], made)
        ]
        check, figures = probe.compare_int8(
            *opened,
            samples=blobs.get("samples"),
            rows=question["rows"],
            tolerance=question["int8_tolerance"],
            sizes=(len(blobs["model"]), len(made)),
        )
        link.send({"check": check.as_json()})
        link.send({"figures": {"int8": figures}})
        if figures["kept"]:
            link.send_blob(made)

    return run


def _collation(question: dict[str, Any]) -> Collation | ImageCollation | None:
    return None if question["collation"] is None else collation_from_json(question["collation"])


def _tell(link: Link, checks: Iterator[Check]) -> None:
    for check in checks:
        link.send({"check": check.as_json()})


_TASKS: Final[dict[str, Callable[[], Task]]] = {"graph": _graph_task, "probe": _probe_task, "int8": _int8_task}

if __name__ == "__main__":
    main(sys.argv[1:])
