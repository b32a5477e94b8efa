"""ONNX Runtime sessions as a worker uses them: one thread, no telemetry, the provider that really runs."""

import time
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.arrays import Arrays
from inference.datatypes import BYTES
from inference.errors import InvalidInput, ModelFailed, ModelLoadFailed
from inference.feeding import feeds_of, measured_rows, warm_up_rows
from inference.providers import Gpu, Placement, find_placement, open_session, run_bound
from inference.rehearsal import rows_are_apart
from inference.signature import Signature
from inference.tensors import Collation, ImageCollation
from inference.values import array_of, feed_of, split_rows

# Rows of 32 ids: measuring takes 0.3 s on the flagship LSTM.
_MEASURED_STEPS: Final = 32
_MEASURED_ROWS: Final = (1, 2, 4, 8, 16)
_MEASURED_ROUNDS: Final = 5
# A batch's way to the worker and back, both ends' CPU; it counts for small models, not for large ones.
_HOP_US: Final = 150.0


class Session:
    """One loaded model of one version."""

    def __init__(
        self, model: bytes | memoryview, *, collation: Collation | ImageCollation | None, signature: Signature, gpu: Gpu | None
    ) -> None:
        """Load and warm up the model.

        Args:
            model: The ONNX file's bytes.
            collation: Of the version's pipeline, if it has one.
            signature: What the graph takes and gives.
            gpu: What to ask for; None for the CPU.

        Raises:
            ModelLoadFailed: ONNX Runtime refuses it, it lacks a named tensor, or, where it has a
                pipeline and so takes any row, its first run fails.
        """
        self._collation = collation
        self._signature = signature
        try:
            self._session = open_session(model, gpu=gpu)
        except Exception as error:
            raise ModelLoadFailed(str(error)) from error
        # ONNX Runtime's Python keeps the file, in case it should have to load it anew; that would double the memory.
        self._session._model_bytes = None  # noqa: SLF001 (nothing public lets go of it)
        self.placement: Placement = find_placement(self._session)
        numbers = all(spec.kind == "tensor" and spec.datatype != BYTES for spec in (*signature.inputs, *signature.outputs))
        self._binds = self.placement.provider == "cuda" and numbers
        # An input that no node uses is dropped at the load, and may not be fed.
        self._fed = {tensor.name for tensor in (*self._session.get_inputs(), *self._session.get_overridable_initializers())}
        self.step_costs: dict[int, float] = {}
        if collation is not None:
            self._check_names(collation)
            try:
                self.run(*warm_up_rows(collation))
                self.step_costs = self._measure_steps(collation)
            except ModelFailed as error:
                msg = f"the first run failed: {error.detail}"
                raise ModelLoadFailed(msg) from error
            self.joins = False  # Its callers send text; who sends its tensors can spare what batching saves.
        else:
            # Whether calls with tensors may run together; finding out warms the model up.
            self.joins = rows_are_apart(signature, self._run_named)

    def _check_names(self, collation: Collation | ImageCollation) -> None:
        inputs = {tensor.name for tensor in self._session.get_inputs()}
        outputs = {tensor.name for tensor in self._session.get_outputs()}
        if inputs != collation.inputs or collation.output not in outputs:
            msg = f"inputs {sorted(inputs)} and outputs {sorted(outputs)} are not {collation}"
            raise ModelLoadFailed(msg)

    def run(self, flat: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return the output of rows run together, first axis = rows.

        Args:
            flat: The rows, one after the other: ids, or the bytes of images.
            lengths: `(rows,)`, each >= 1.

        Raises:
            InvalidInput: an image cannot be decoded.
            ModelFailed: ONNX Runtime raised, or the output has not one entry per row. Declared
                shapes cannot be trusted, so the real one is checked.
        """
        collation = self._collation
        if collation is None:
            msg = "the version has no pipeline"
            raise ModelFailed(msg)
        try:
            feeds = feeds_of(collation, flat, lengths)
            (output,) = self._run([collation.output], feeds)
        except InvalidInput:
            raise
        except Exception as error:
            raise ModelFailed(str(error)) from error
        if not isinstance(output, np.ndarray) or output.dtype.kind not in "biuf" or output.ndim == 0:
            msg = f"{collation.output} is not an array of numbers"
            raise ModelFailed(msg)
        if output.shape[0] != lengths.size:
            msg = f"{collation.output} has shape {output.shape} for {lengths.size} rows"
            raise ModelFailed(msg)
        return output

    def run_tensors(self, calls: list[Arrays], outputs: list[str]) -> list[Arrays] | None:
        """Return each call's outputs, from one run for all of them.

        Args:
            calls: Each one's inputs by name; of several, with equal shapes but for the first dimension.
            outputs: The names wanted; none for all.

        Returns:
            Outputs by name for each call; None where several calls' cannot be told apart, because an
            output has not one row for each row of the inputs.

        Raises:
            ModelFailed: ONNX Runtime raised, or an output cannot be answered.
        """
        names = outputs or [spec.name for spec in self._signature.outputs]
        if len(calls) == 1:
            return [self._run_named(calls[0], names)]
        together = {name: np.concatenate([call[name] for call in calls]) for name in calls[0]}
        rows = [next(iter(call.values())).shape[0] for call in calls]
        return split_rows(self._run_named(together, names), rows)

    def _run_named(self, inputs: Arrays, names: list[str]) -> Arrays:
        feeds = {name: feed_of(array) for name, array in inputs.items() if name in self._fed}
        try:
            values = self._run(names, feeds)
        except Exception as error:
            raise ModelFailed(str(error)) from error
        return {name: array_of(name, value) for name, value in zip(names, values, strict=True)}

    def _run(self, names: list[str], feeds: Arrays) -> list[Any]:
        if self._binds and all(array.size for array in feeds.values()):
            return run_bound(self._session, names, feeds)
        values: list[Any] = self._session.run(names, feeds)
        return values

    def _measure_steps(self, collation: Collation | ImageCollation) -> dict[int, float]:
        """Return what a time step costs by the batch's rows, in microseconds (`batching.StepCosts`).

        The least of five rounds: a busy neighbour slows one round down, not one number of rows. CPU time,
        which a neighbour does not have a part in; of a GPU, whose time is nobody's CPU time, the time that passes.
        """
        rounds = [[self._time_step(collation, rows) for rows in _MEASURED_ROWS] for _ in range(_MEASURED_ROUNDS)]
        return dict(zip(_MEASURED_ROWS, map(min, *rounds), strict=True))

    def _time_step(self, collation: Collation | ImageCollation, rows: int) -> float:
        flat, lengths, steps = measured_rows(collation, rows=rows, steps=_MEASURED_STEPS)
        clock = time.perf_counter if self.placement.provider == "cuda" else time.process_time
        started = clock()
        self.run(flat, lengths)
        return ((clock() - started) * 1e6 + _HOP_US) / steps
