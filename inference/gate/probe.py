"""Load a model, run it, and write down what it does. Only in the sandboxed process of `child.py`."""

import math
import re
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from inference.gate.compare import Outputs, cut_outputs, difference, has_nan, percentile
from inference.gate.inputs import (
    MADE_SIZES,
    Feeds,
    Input,
    SampleInvalid,
    cut_rows,
    is_batchable,
    join_feeds,
    made_feeds,
    made_rows,
    read_inputs,
    read_samples,
    row_feeds,
    rows_of,
)
from inference.gate.limits import GateLimits
from inference.gate.report import Check, failed, passed, skipped, warned
from inference.providers import open_session
from inference.tensors import Collation, ImageCollation, PipelineRow

_BATCHES: Final = (1, 2, 8)
# Runs that p50 and p99 are taken from, and seconds they may take together.
_TIMED_RUNS: Final = 50
_TIMED_S: Final = 2.0

Stage = Callable[[str], None]


class Stop(Exception):
    """A check failed that all later ones rest on."""

    def __init__(self, check: Check) -> None:
        super().__init__(check.detail)
        self.check = check


class Probe:
    """One model under examination."""

    def __init__(self, model: bytes, *, collation: Collation | ImageCollation | None, limits: GateLimits, enter: Stage) -> None:
        """Load it.

        Args:
            model: The ONNX file.
            collation: What its pipeline feeds it; None for raw tensors.
            limits: What it may take.
            enter: Called with the name of each stage as it begins, so that whoever waits knows where it ended.

        Raises:
            Stop: it cannot be loaded.
        """
        self.figures: dict[str, Any] = {}
        self._collation, self._limits, self._enter = collation, limits, enter
        enter("load")
        before, started = _peak_bytes(), time.perf_counter()
        try:
            self._session = open_session(model)
        except Exception as error:
            raise Stop(failed("load", f"ONNX Runtime refuses it: {_short(error)}")) from error
        self.figures["load_s"] = round(time.perf_counter() - started, 3)
        self._before = before
        try:
            self._inputs: list[Input] = read_inputs(self._session)
        except SampleInvalid as error:
            raise Stop(failed("load", str(error))) from error
        self._outputs = [one.name for one in self._session.get_outputs()] if collation is None else [collation.output]
        self._check_pipeline_names()

    def _check_pipeline_names(self) -> None:
        if self._collation is None:
            return
        names, expected = {one.name for one in self._inputs}, self._collation.inputs
        outputs = {one.name for one in self._session.get_outputs()}
        if names != expected or self._collation.output not in outputs:
            detail = f"pipeline.json names the inputs {sorted(expected)} and the output {self._collation.output!r}; the model has {sorted(names)} and {sorted(outputs)}."
            raise Stop(failed("pipeline", detail[:500]))

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs of one run, uncompared and unchecked."""
        outputs: Outputs = self._session.run(self._outputs, dict(feeds))
        return outputs

    def examine(self, samples: bytes | None, rows: Sequence[PipelineRow] | None) -> Iterator[Check]:
        """Yield a check of each thing it does, on made and on the provider's inputs.

        Args:
            samples: The provider's samples.json, for raw tensors.
            rows: The provider's samples as rows of ids or as images, for a pipeline.

        Raises:
            Stop: no input could be run, or one of the provider's failed.
        """
        yield passed("load", f"Loaded in {self.figures['load_s']} s.")
        self._enter("samples")
        given = self._given(samples, rows)
        yield from self._run_given(given)
        self._enter("made inputs")
        made = self._made()
        yield from self._run_made(made, has_samples=bool(given))
        probes = given or made
        assert probes  # Or `_run_made` had stopped.
        self._enter("repetition")
        yield self._determinism(probes[0])
        yield from self._numbers(probes)
        self._enter("batches")
        yield from self._parity(given, made, rows)
        self._enter("latency")
        yield self._latency(probes[0])
        yield self._memory()

    def _given(self, samples: bytes | None, rows: Sequence[PipelineRow] | None) -> list[Feeds]:
        if self._collation is not None:
            try:
                return [row_feeds([row], self._collation) for row in rows or ()]
            except SampleInvalid as error:
                raise Stop(failed("samples", str(error))) from error
        if samples is None:
            return []
        try:
            return read_samples(samples, self._inputs, most=self._limits.max_samples)
        except SampleInvalid as error:
            raise Stop(failed("samples", str(error))) from error

    def _run_given(self, given: Sequence[Feeds]) -> Iterator[Check]:
        if not given:
            yield skipped("samples", "No sample inputs were sent: what the model does to real ones was not seen.")
            return
        for number, feeds in enumerate(given):
            started = time.perf_counter()
            try:
                self.run(feeds)
            except Exception as error:
                raise Stop(failed("samples", f"Sample {number} fails: {_short(error)}")) from error
            if (took_s := time.perf_counter() - started) > self._limits.run_s:
                raise Stop(failed("samples", f"Sample {number} takes {took_s:.1f} s; at most {self._limits.run_s:g} s are given."))
        yield passed("samples", f"{len(given)} of the provider's samples run.")

    def _made(self) -> list[Feeds]:
        """Return single-row inputs that the model takes, or none."""
        if self._collation is not None:
            return [row_feeds([row], self._collation) for row in made_rows(max(_BATCHES), self._collation)]
        for size in MADE_SIZES:
            feeds = made_feeds(self._inputs, size=size, rows=1, seed=0)
            if feeds is not None and self._takes(feeds):
                several = (made_feeds(self._inputs, size=size, rows=1, seed=seed) for seed in range(max(_BATCHES)))
                return [one for one in several if one is not None]
        return []

    def _takes(self, feeds: Feeds) -> bool:
        try:
            self.run(feeds)
        except Exception as error:  # noqa: BLE001 (whatever ONNX Runtime raises means no)
            self._refusal = _short(error)
            return False
        return True

    def _run_made(self, made: Sequence[Feeds], *, has_samples: bool) -> Iterator[Check]:
        if made and all(self._takes(feeds) for feeds in made):
            yield passed("made_inputs", f"{len(made)} made inputs run.")
            return
        detail = f"Made inputs fail: {getattr(self, '_refusal', 'they would be too large')}"
        if not has_samples:
            raise Stop(failed("made_inputs", f"{detail} Send sample inputs that the model takes."))
        yield skipped("made_inputs", detail)

    def _determinism(self, feeds: Feeds) -> Check:
        same = difference(self.run(feeds), self.run(feeds)) == 0
        self.figures["deterministic"] = same
        if same:
            return passed("determinism", "The same input gives the same bytes.")
        return warned("determinism", "The same input gives different answers: a repeated call will not get the same reply.")

    def _numbers(self, probes: Sequence[Feeds]) -> Iterator[Check]:
        if any(has_nan(self.run(feeds)) for feeds in probes[: max(_BATCHES)]):
            yield warned("numbers", "An answer holds NaN or Infinity, which JSON cannot carry: such a call is refused.")
        else:
            yield passed("numbers", "All answers are finite.")

    def _parity(self, given: Sequence[Feeds], made: Sequence[Feeds], rows: Sequence[PipelineRow] | None) -> Iterator[Check]:
        """Compare each row alone with the same row in a batch: calls of strangers will share batches."""
        self.figures["batched"] = False
        if self._collation is None and not is_batchable(self._inputs):
            yield skipped("parity", "An input has a fixed first size, so calls run alone.")
            return
        worst, largest = 0.0, 1
        for size in _BATCHES[1:]:
            for batch, alone in self.batches(given, made, rows, size=size):
                gap = self._gap(batch, alone)
                if isinstance(gap, str):
                    yield self._unbatched(gap)
                    return
                worst, largest = max(worst, gap), size
        if largest == 1:
            yield skipped("parity", "No two inputs have the same shape, so none were put together; calls run alone.")
            return
        self.figures["parity_difference"] = worst
        if worst > self._limits.parity_tolerance:
            yield self._unbatched(
                f"A row's answer differs by {worst:.2g} in a batch of others; at most {self._limits.parity_tolerance:g} is taken."
            )
            return
        self.figures["batched"] = True
        yield passed("parity", f"Rows alone and in batches of 2 and 8 agree to {worst:.1g}.")

    def batches(
        self, given: Sequence[Feeds], made: Sequence[Feeds], rows: Sequence[PipelineRow] | None, *, size: int
    ) -> Iterator[tuple[Feeds, list[Feeds]]]:
        """Yield batches beside the rows they consist of: of samples, and of made inputs."""
        if self._collation is not None:
            for several in (list(rows or ())[:size], made_rows(size, self._collation)):
                if len(several) > 1:
                    yield row_feeds(several, self._collation), [row_feeds([row], self._collation) for row in several]
            return
        for singles in ([one for one in given if rows_of(one) == 1][:size], list(made)[:size]):
            joined = join_feeds(singles) if len(singles) > 1 else None
            if joined is not None:
                yield joined, singles
        for feeds in given:  # A sample that is a batch already.
            count = rows_of(feeds)
            if count and 1 < count <= max(_BATCHES):
                yield feeds, [cut_rows(feeds, row, row + 1) for row in range(count)]

    def _gap(self, batch: Feeds, alone: Sequence[Feeds]) -> float | str:
        """Return how far the rows' answers are apart, or why they cannot be compared."""
        started = time.perf_counter()
        try:
            together = self.run(batch)
        except Exception as error:  # noqa: BLE001 (whatever ONNX Runtime raises means no)
            return f"A batch of {len(alone)} rows fails: {_short(error)}"
        if (took_s := time.perf_counter() - started) > self._limits.run_s:
            return f"A batch of {len(alone)} rows takes {took_s:.1f} s; at most {self._limits.run_s:g} s are given."
        worst = 0.0
        for row, feeds in enumerate(alone):
            cut = cut_outputs(together, len(alone), row, row + 1)
            if cut is None:
                return f"An output has not one entry per row in a batch of {len(alone)}."
            worst = max(worst, difference(self.run(feeds), cut))
        return worst

    def _unbatched(self, why: str) -> Check:
        """A pipeline is always served in batches; raw tensors can be run call by call."""
        if self._collation is not None:
            return failed("parity", why)
        return warned("parity", f"{why} Calls run alone.")

    def _latency(self, feeds: Feeds) -> Check:
        self.figures |= time_runs(lambda: self.run(feeds))
        return passed(
            "latency",
            f"One row alone: p50 {self.figures['p50_ms']} ms, p99 {self.figures['p99_ms']} ms over {self.figures['timed_runs']} runs.",
        )

    def _memory(self) -> Check:
        used = max(0, _peak_bytes() - self._before)
        self.figures["peak_memory_bytes"] = used
        return passed("memory", f"Loading and running it took {used / 2**20:.0f} MB at most.")


def time_runs(run: Callable[[], object]) -> dict[str, Any]:
    """Return p50 and p99 of one row, in milliseconds, over at most 50 runs or 2 s."""
    spent: list[float] = []
    while len(spent) < _TIMED_RUNS and sum(spent) < _TIMED_S:
        started = time.perf_counter()
        run()
        spent.append(time.perf_counter() - started)
    return {"p50_ms": percentile(spent, 0.5), "p99_ms": percentile(spent, 0.99), "timed_runs": len(spent)}


def _peak_bytes() -> int:
    """Most memory this process ever held, in bytes. Works without /proc."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _short(error: BaseException) -> str:
    """Return one line for the provider of ONNX Runtime's message, which can hold whole tensors and where its own source lies."""
    text = " ".join(str(error).split())
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(" : ", 3)[-1]
    head, status, told = text.partition(" Status Message: ")
    if status:
        text = f"{head.removeprefix('Non-zero status code returned ').partition(' Name:')[0]}: {told}"
    return re.sub(r"/\S*onnxruntime\S*( [^()]*\([^()]*\))?\s*", "", text)[:300].strip()


def compare_int8(
    original: Probe,
    quantized: Probe,
    *,
    samples: bytes | None,
    rows: Sequence[PipelineRow] | None,
    tolerance: float,
    sizes: tuple[int, int],
) -> tuple[Check, dict[str, Any]]:
    """Return whether an int8 model answers the provider's samples as float32 does, and both figures.

    Alone and in batches of 2 and 8, where calls are batched.

    Raises:
        Exception: ONNX Runtime's, where it cannot be run.
    """
    feeds = original._given(samples, rows)  # noqa: SLF001 (one class, two of its kind)
    worst = max(difference(original.run(one), quantized.run(one)) for one in feeds)
    # Its activations are rounded by the range of the whole batch: what it answers to a row depends on the others.
    for size in _BATCHES[1:]:
        for batch, alone in original.batches(feeds, feeds, rows, size=size):
            worst = max(worst, _worst_in_batch(original, quantized, batch, alone))
    float_time = time_runs(lambda: original.run(feeds[0]))
    int8_time = time_runs(lambda: quantized.run(feeds[0]))
    kept = worst <= tolerance
    figures = {
        "kept": kept,
        "difference": round(worst, 6) if math.isfinite(worst) else None,
        "tolerance": tolerance,
        "samples": len(feeds),
        "p50_ms": int8_time["p50_ms"],
        "p99_ms": int8_time["p99_ms"],
        "float32_p50_ms": float_time["p50_ms"],
        "float32_p99_ms": float_time["p99_ms"],
        "size_bytes": sizes[1],
        "float32_size_bytes": sizes[0],
    }
    apart = f"Its answers differ by {worst:.2g} at most on {len(feeds)} samples; {tolerance:g} is allowed."
    if not kept:
        return skipped("int8", f"{apart} Not kept: float32 is served."), figures
    return passed("int8", f"{apart} p50 {int8_time['p50_ms']} ms, float32 {float_time['p50_ms']} ms."), figures


def _worst_in_batch(original: Probe, quantized: Probe, batch: Feeds, alone: Sequence[Feeds]) -> float:
    """Return how far int8's answers in a batch are from float32's to the same rows alone; 0 where rows have no answer of their own."""
    together = quantized.run(batch)
    cuts = [cut_outputs(together, len(alone), row, row + 1) for row in range(len(alone))]
    return max((difference(original.run(one), cut) for one, cut in zip(alone, cuts, strict=True) if cut is not None), default=0.0)
