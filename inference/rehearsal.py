"""Runs a fresh model on made inputs: to warm it up, and to learn whether its rows keep apart."""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from inference.arrays import Arrays
from inference.datatypes import BYTES, NUMPY_DATATYPES
from inference.errors import ModelFailed
from inference.signature import Signature, TensorSpec

Run: TypeAlias = Callable[[Arrays, list[str]], Arrays]

# What a variable dimension may need to be: long enough for a kernel, or 1 because another input says so.
_SIZES: Final = (16, 1, 64)
# Larger inputs are not made: they would take seconds to run.
_MAX_ELEMENTS: Final = 2**20
# Sums are added up in another order when more rows run together.
_RELATIVE: Final = 1e-3
_ABSOLUTE: Final = 1e-4


def rows_are_apart(signature: Signature, run: Run) -> bool:
    """Whether two rows that run together are answered as each is alone; False where it cannot be shown.

    A model whose rows touch each other (a softmax over the batch, a state carried from row to row)
    would answer one tenant with what another sent.
    """
    names = [spec.name for spec in signature.outputs]
    for inputs in _made_inputs(signature):
        try:
            alone = [run(row, names) for row in _rows(inputs)] if signature.has_rows else [run(inputs, names)]
        except ModelFailed:
            continue  # Not an input for this model; another size may be.
        return signature.has_rows and _is_apart(run, inputs, names, alone)
    return False


def _is_apart(run: Run, inputs: Arrays, names: list[str], alone: list[Arrays]) -> bool:
    try:
        together = run(inputs, names)
    except ModelFailed:
        return False
    return all(_agree(together[name], [answer[name] for answer in alone]) for name in names)


def _agree(together: npt.NDArray[Any], alone: list[npt.NDArray[Any]]) -> bool:
    if together.ndim == 0 or any(array.ndim != together.ndim or array.shape[0] != 1 for array in alone):
        return False
    joined = [array.shape[1:] == together.shape[1:] for array in alone]
    if not all(joined) or together.shape[0] != len(alone):
        return False
    expected = np.concatenate(alone)
    if together.dtype.kind == "f":
        return np.allclose(together, expected, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True)
    return bool(np.array_equal(together, expected))


def _rows(inputs: Arrays) -> list[Arrays]:
    return [{name: array[row : row + 1] for name, array in inputs.items()} for row in range(2)]


def _made_inputs(signature: Signature) -> Iterator[Arrays]:
    """Yield inputs of two different rows (or, where there are no rows, of any kind), for each size of a variable."""
    specs = [spec for spec in signature.inputs if not spec.optional]
    variable = any(-1 in spec.shape[1 if signature.has_rows else 0 :] for spec in specs)
    for size in _SIZES if variable else _SIZES[:1]:
        shapes = [_shape_of(spec, size, has_rows=signature.has_rows) for spec in specs]
        if sum(map(prod, shapes)) <= _MAX_ELEMENTS:
            draw = np.random.default_rng(size)
            yield {spec.name: _draw(spec, shape, draw) for spec, shape in zip(specs, shapes, strict=True)}


def _shape_of(spec: TensorSpec, size: int, *, has_rows: bool) -> tuple[int, ...]:
    shape = tuple(size if dim == -1 else dim for dim in spec.shape)
    return (2, *shape[1:]) if has_rows else shape


def _draw(spec: TensorSpec, shape: tuple[int, ...], draw: np.random.Generator) -> npt.NDArray[Any]:
    datatype = NUMPY_DATATYPES[spec.datatype]
    if spec.datatype == BYTES:
        return draw.choice(np.array([b"a", b"b"], dtype=object), size=shape)
    if datatype.kind == "f":
        return np.asarray(draw.standard_normal(shape)).astype(datatype)
    return np.asarray(draw.integers(0, 2, size=shape)).astype(datatype)  # 0 and 1 are in any table of two.
