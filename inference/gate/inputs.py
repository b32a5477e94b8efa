"""Inputs to probe a model with: the provider's own samples, and made ones where its signature says what it takes."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from inference.errors import InvalidInput
from inference.feeding import encode_png, feeds_of
from inference.tensors import Collation, ImageCollation, PipelineRow

Feeds: TypeAlias = Mapping[str, npt.NDArray[Any]]

_DTYPES: Final[Mapping[str, Any]] = {
    "tensor(bool)": np.bool_, "tensor(uint8)": np.uint8, "tensor(uint16)": np.uint16, "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64, "tensor(int8)": np.int8, "tensor(int16)": np.int16, "tensor(int32)": np.int32,
    "tensor(int64)": np.int64, "tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(double)": np.float64,
    "tensor(string)": np.object_,
}  # fmt: skip
# What dimensions that are not fixed are tried with, in turn: pooling wants room, recurrent state wants one.
MADE_SIZES: Final = (8, 1, 32, 224)
# A made input larger than this would measure memory, not the model.
_MAX_MADE_ELEMENTS: Final = 2**22
# Ids of a text's made rows stay small: every vocabulary has so many.
_MADE_IDS: Final = 2
_MADE_LENGTHS: Final = (5, 1, 3, 17, 9, 2, 12, 7)


class SampleInvalid(Exception):
    """A sample does not fit the model's inputs. Its text is for the provider."""


@dataclass(frozen=True, slots=True)
class Input:
    """One input of the model: its name, its element type, and its shape, where None is a size of the caller's choice."""

    name: str
    dtype: Any
    shape: tuple[int | str | None, ...]


def read_inputs(session: Any) -> list[Input]:
    """Return what a loaded session takes.

    Raises:
        SampleInvalid: it takes something that is no tensor of a known type.
    """
    found = []
    for one in session.get_inputs():
        if one.type not in _DTYPES:
            msg = f"The input {one.name!r} is a {one.type}, which cannot be sent."
            raise SampleInvalid(msg)
        shape = tuple(size if isinstance(size, str) or (isinstance(size, int) and size >= 0) else None for size in one.shape)
        found.append(Input(one.name, _DTYPES[one.type], shape))
    return found


def is_batchable(inputs: Sequence[Input]) -> bool:
    """Whether rows of several calls could be put together: every input's first size is the caller's choice."""
    return bool(inputs) and all(one.shape and not isinstance(one.shape[0], int) for one in inputs)


def made_feeds(inputs: Sequence[Input], *, size: int, rows: int, seed: int) -> Feeds | None:
    """Return inputs of the model's own types; None where they would be too large.

    Args:
        inputs: What the model takes.
        size: What each free dimension but the first is set to.
        rows: What a free first dimension is set to.
        seed: Of the values.
    """
    chosen = np.random.default_rng(seed)
    feeds: dict[str, npt.NDArray[Any]] = {}
    for one in inputs:
        shape = tuple((rows if axis == 0 else size) if not isinstance(dim, int) else dim for axis, dim in enumerate(one.shape))
        elements = 1
        for dim in shape:
            elements *= dim
        if elements > _MAX_MADE_ELEMENTS:
            return None
        feeds[one.name] = _made_values(chosen, one.dtype, shape)
    return feeds


def _made_values(chosen: np.random.Generator, dtype: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if dtype is np.object_:
        return np.full(shape, "sample", dtype=np.object_)
    if np.issubdtype(dtype, np.floating):
        return chosen.uniform(0, 1, shape).astype(dtype)
    return chosen.integers(0, 2, shape).astype(dtype)


def row_feeds(rows: Sequence[PipelineRow], collation: Collation | ImageCollation) -> Feeds:
    """Return a pipeline's rows as the batch that serving makes of them.

    Raises:
        SampleInvalid: an image cannot be decoded.
    """
    if isinstance(collation, ImageCollation):
        try:
            files = [np.frombuffer(base64.b64decode(str(row)), dtype=np.uint8) for row in rows]
            return feeds_of(collation, np.concatenate(files), np.array([file.size for file in files], dtype=np.int64))
        except InvalidInput as error:
            msg = f"An image cannot be decoded: {error.detail}"
            raise SampleInvalid(msg) from error
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    flat = np.array([identity for row in rows for identity in row], dtype=np.int64)
    return feeds_of(collation, flat, lengths)


def made_rows(count: int, collation: Collation | ImageCollation) -> list[PipelineRow]:
    """Return rows of ids of unequal lengths, or noisy images of unequal sizes, in base64."""
    if isinstance(collation, ImageCollation):
        draw = np.random.default_rng(0)
        sizes = [(collation.height + 3 * row, collation.width + 2 * row) for row in range(count)]
        return [base64.b64encode(encode_png(draw.integers(0, 256, size, dtype=np.uint8))).decode() for size in sizes]
    return [[position % _MADE_IDS for position in range(_MADE_LENGTHS[row % len(_MADE_LENGTHS)])] for row in range(count)]


def read_samples(content: bytes, inputs: Sequence[Input], *, most: int) -> list[Feeds]:
    """Return the provider's samples: a JSON list, each an object of named nested lists, as `input_data` of a call.

    Raises:
        SampleInvalid: naming the sample and the input at fault.
    """
    try:
        listed = json.loads(content)
    except (ValueError, RecursionError) as error:
        msg = f"samples.json is not JSON: {str(error)[:200]}"
        raise SampleInvalid(msg) from error
    if not isinstance(listed, list) or not 1 <= len(listed) <= most:
        msg = f"samples.json must be a list of 1 to {most} samples."
        raise SampleInvalid(msg)
    return [_read_sample(sample, inputs, where=f"Sample {number}") for number, sample in enumerate(listed)]


def _read_sample(sample: object, inputs: Sequence[Input], *, where: str) -> Feeds:
    names = {one.name for one in inputs}
    if not isinstance(sample, dict) or not set(sample) <= names:
        msg = f"{where} must be an object of the inputs {', '.join(sorted(names))[:200]}."
        raise SampleInvalid(msg)
    feeds = {}
    for one in inputs:
        if one.name not in sample:  # It may have a default in the graph; the run will tell.
            continue
        try:
            array = np.array(sample[one.name], dtype=one.dtype)
        except (ValueError, TypeError, OverflowError) as error:
            msg = f"{where}, input {one.name!r}: {str(error)[:200]}"
            raise SampleInvalid(msg) from error
        fits = array.ndim == len(one.shape) and all(
            not isinstance(want, int) or want == got for want, got in zip(one.shape, array.shape, strict=True)
        )
        if not fits:
            wanted = "x".join("any" if not isinstance(dim, int) else str(dim) for dim in one.shape) or "a single value"
            msg = f"{where}, input {one.name!r}: the shape is {'x'.join(map(str, array.shape)) or 'a single value'}, and the model takes {wanted}."
            raise SampleInvalid(msg)
        feeds[one.name] = array
    return feeds


def join_feeds(several: Sequence[Feeds]) -> Feeds | None:
    """Return single-row inputs put together along their first axis; None where their other sizes differ."""
    first = several[0]
    if any(feeds.keys() != first.keys() or any(feeds[name].shape[1:] != first[name].shape[1:] for name in first) for feeds in several):
        return None
    return {name: np.concatenate([feeds[name] for feeds in several]) for name in first}


def rows_of(feeds: Feeds) -> int | None:
    """Return how many rows all inputs agree on, or None."""
    sizes = {array.shape[0] if array.ndim else 0 for array in feeds.values()}
    return sizes.pop() if len(sizes) == 1 else None


def cut_rows(feeds: Feeds, start: int, stop: int) -> Feeds:
    """Return some of the rows."""
    return {name: array[start:stop] for name, array in feeds.items()}
