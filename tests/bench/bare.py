"""The limit: `session.run` on ready-made batches of the same texts. No HTTP, no JSON, no metering.

    python -m tests.bench.bare MODEL.onnx LENGTHS.json SECONDS CONFIG...

A configuration is order/size/callers. Order: `fifo` takes the texts as they come; `win32` sorts
windows of 32 by length first, as many as wait when 32 calls are outstanding, and cuts them into
pieces of `size`; `cut32` cuts the same windows where a cost model measured here says it is cheapest;
`sort` sorts all. Callers are threads on one session, each on a core of its own. Prints a JSON line each.
"""

import json
import random
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

Batch = dict[str, np.ndarray]


def open_session(path: Path) -> ort.InferenceSession:
    """Return the model's session as the workers open theirs: one thread, no spinning."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def make_batch(lengths: Sequence[int]) -> Batch:
    """Return a padded batch; token 2 is as good as any."""
    ids = np.zeros((len(lengths), max(lengths)), np.int64)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = 2
    return {"ids": ids, "lengths": np.array(lengths, np.int64)}


def fit_overhead(session: ort.InferenceSession) -> float:
    """Return what a time step costs beside its rows, in rows."""

    def seconds(rows: int) -> float:
        batch = make_batch([32] * rows)
        times = []
        for _ in range(15):
            began = time.perf_counter()
            session.run(None, batch)
            times.append(time.perf_counter() - began)
        return sorted(times)[len(times) // 2]

    one, sixteen = seconds(1), seconds(16)
    return max(0.0, (16 * one - sixteen) / (sixteen - one))


def cut_cheapest(window: Sequence[int], overhead: float) -> Iterator[Sequence[int]]:
    """Cut a window sorted by length so that the sum of longest x (overhead + rows) is least."""
    best, cuts = [0.0], [0]
    for end in range(1, len(window) + 1):
        cost, start = min((best[begin] + window[end - 1] * (overhead + end - begin), begin) for begin in range(end))
        best.append(cost)
        cuts.append(start)
    end = len(window)
    while end:
        yield window[cuts[end] : end]
        end = cuts[end]


def make_batches(lengths: Sequence[int], order: str, size: int, overhead: float) -> list[Batch]:
    """Return all texts' batches in one configuration."""
    match = re.fullmatch(r"(fifo|sort|win|cut)(\d*)", order)
    assert match, order
    kind, width = match[1], {"fifo": 1, "sort": len(lengths)}.get(match[1]) or int(match[2])
    windows = [sorted(lengths[begin : begin + width]) for begin in range(0, len(lengths), width)]
    if kind == "cut":
        return [make_batch(piece) for window in windows for piece in cut_cheapest(window, overhead)]
    flat = [length for window in windows for length in window]
    return [make_batch(flat[begin : begin + size]) for begin in range(0, len(flat), size)]


def run_pass(session: ort.InferenceSession, batches: list[Batch], callers: int) -> None:
    """Run every batch once, on that many threads."""
    todo, lock = iter(batches), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                batch = next(todo, None)
            if batch is None:
                return
            session.run(None, batch)

    threads = [threading.Thread(target=work) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure(session: ort.InferenceSession, lengths: Sequence[int], config: str, seconds: float, overhead: float) -> dict[str, Any]:
    """Measure whole passes over all texts for at least that long."""
    order, size, callers = config.split("/")
    batches = make_batches(lengths, order, int(size), overhead)
    choose = random.Random(1)
    run_pass(session, choose.sample(batches, max(1, len(batches) // 10)), int(callers))
    passes, wall, cpu = 0, 0.0, 0.0
    while wall < seconds:
        # The longest last batch would leave the other core idle at the end of each pass.
        shuffled = sorted(choose.sample(batches, len(batches)), key=lambda batch: -batch["ids"].size)
        cpu_before, began = time.process_time(), time.perf_counter()
        run_pass(session, shuffled, int(callers))
        wall, cpu, passes = wall + time.perf_counter() - began, cpu + time.process_time() - cpu_before, passes + 1
    calls = passes * len(lengths)
    padded = sum(batch["ids"].size for batch in batches) / sum(lengths)
    return {"config": config, "calls_s": calls / wall, "cpu_us": 1e6 * cpu / calls, "padded": padded}


if __name__ == "__main__":
    bare_session = open_session(Path(sys.argv[1]))
    all_lengths = json.loads(Path(sys.argv[2]).read_text())
    step_overhead = fit_overhead(bare_session)
    for wanted in sys.argv[4:]:
        print(json.dumps(measure(bare_session, all_lengths, wanted, float(sys.argv[3]), step_overhead)), flush=True)
