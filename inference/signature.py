"""What a model takes and gives, read from its graph: names, datatypes and shapes.

Inputs are checked against it before anything is queued. What it says of outputs is what the graph
declares, and published models declare what they do not keep: answers carry their own shapes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from inference.datatypes import BYTES, NUMPY_DATATYPES, find_datatype
from inference.errors import InvalidInput, ModelLoadFailed

Kind: TypeAlias = Literal["tensor", "sequence", "map", "optional"]
Inputs: TypeAlias = Mapping[str, npt.NDArray[Any]]

# An example longer than this helps nobody who reads it.
_MAX_EXAMPLE_ELEMENTS: Final = 256
_MAX_RANK: Final = 8
# Names under which exported models take each row's length, as int32 or int64 of `(rows,)`.
_LENGTHS: Final = frozenset(
    {"length", "lengths", "seq_len", "seq_lens", "sequence_length", "sequence_lengths", "sequence_lens", "input_lengths"}
)
_MAX_LENGTH: Final = 2**20


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output."""

    name: str
    datatype: str  # The Open Inference Protocol's name: BOOL, UINT8 to INT64, FP16 to FP64, BYTES.
    shape: tuple[int, ...]  # -1 is variable.
    optional: bool = False  # The graph has a value for it where the caller sends none.
    any_rank: bool = False  # The graph says nothing of its shape; `shape` is then (-1,).
    # Only outputs are anything but tensors. Those are answered as BYTES, each element one JSON document:
    # of a sequence one for each item (`shape` is (-1,)), of a map or an optional value one in all (`shape` is ()).
    kind: Kind = "tensor"

    @property
    def shown_shape(self) -> str:
        """The shape as people read it: [-1, 28, 28], where -1 is any size."""
        return "of any kind" if self.any_rank else str(list(self.shape))

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape may be sent."""
        if self.any_rank:
            return len(shape) <= _MAX_RANK
        return len(shape) == len(self.shape) and all(want in (-1, size) for want, size in zip(self.shape, shape, strict=True))


@dataclass(frozen=True, slots=True)
class Measure:
    """How much a call sends."""

    rows: int  # The inputs' common first dimension; 1 where they have none.
    tokens: int  # Time steps of all rows: what a lengths input says, else the first variable dimension after the rows.


@dataclass(frozen=True, slots=True)
class Signature:
    """A model's inputs and outputs, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    # Whether the first dimension of all inputs is one and the same variable: the rows of a batch.
    has_rows: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Return the signature that `as_json` described.

        Raises:
            ModelLoadFailed: the description is not one.
        """
        try:
            inputs, outputs = (
                tuple(TensorSpec(**(spec | {"shape": tuple(spec["shape"])})) for spec in fields[side]) for side in ("inputs", "outputs")
            )
            return cls(inputs=inputs, outputs=outputs, has_rows=bool(fields["has_rows"]))
        except (KeyError, TypeError) as error:
            msg = f"not a signature: {error}"
            raise ModelLoadFailed(msg) from error

    def find_rows(self, inputs: Inputs) -> int | None:
        """Return how many rows a call has: the first dimension of all its inputs, or None where they share none."""
        if not self.has_rows:
            return None
        sizes = {array.shape[0] for array in inputs.values()}
        return sizes.pop() if len(sizes) == 1 else None

    def measure(self, inputs: Inputs) -> Measure:
        """Return how much these inputs are, which `check_inputs` has let pass: at least 1 row and 1 token."""
        rows = max(1, self.find_rows(inputs) or 1)
        steps = 1
        for spec in self.inputs:
            array = inputs.get(spec.name)
            if array is None:
                continue
            if spec.name.lower() in _LENGTHS and array.ndim == 1 and array.dtype.kind in "iu":
                # Clipped, because a caller writes them: no row is free, and none is longer than a row can be.
                return Measure(rows, int(np.clip(array.astype(np.float64), 1, _MAX_LENGTH).sum()) or 1)
            if steps == 1:
                own = array.shape[1:] if self.has_rows else array.shape
                variable = [size for size, dim in zip(own, spec.shape[-len(own) :], strict=False) if dim == -1] if own else []
                steps = max(1, variable[0]) if variable else 1
        return Measure(rows, rows * steps)

    def check_inputs(self, inputs: Inputs, *, allow_nonfinite: bool = False, within: str = "inputs") -> None:
        """Refuse inputs that the graph does not take; what passes is ready to be queued.

        Args:
            inputs: Name -> array. BYTES are object arrays of `bytes`.
            allow_nonfinite: Whether NaN and the infinities may be sent.
            within: What precedes the input's name in the error's `param`.

        Raises:
            InvalidInput: naming the input at fault.
        """
        known = {spec.name: spec for spec in self.inputs}
        for name in inputs:
            if name not in known:
                detail = f"This model has no such input; it takes {', '.join(known) or 'none'}."
                raise InvalidInput(param=f"{within}.{name[:80]}", detail=detail, reason="unknown_input")
        for spec in self.inputs:
            array = inputs.get(spec.name)
            if array is not None:
                _check_tensor(array, spec, param=f"{within}.{spec.name}", allow_nonfinite=allow_nonfinite)
            elif not spec.optional:
                raise InvalidInput(param=f"{within}.{spec.name}", detail="This input is missing.", reason="missing_input")

    def check_outputs(self, names: Sequence[str]) -> None:
        """Refuse names of outputs that the graph does not have, or none.

        Raises:
            InvalidInput: naming the output at fault.
        """
        known = [spec.name for spec in self.outputs]
        if not names or len(set(names)) < len(names):
            raise InvalidInput(
                param="outputs", detail="Name each wanted output once, or send no list for all of them.", reason="wrong_outputs"
            )
        for name in names:
            if name not in known:
                detail = f"This model has no such output; it gives {', '.join(known)}."
                raise InvalidInput(param=f"outputs.{name[:80]}", detail=detail, reason="unknown_output")

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of a request whose `input_data` are these tensors by name."""
        return {
            "type": "object",
            "properties": {
                "input_data": {
                    "description": "The model's tensors by name, as nested lists.",
                    "type": "object",
                    "properties": {spec.name: _schema_of(spec) for spec in self.inputs},
                    "required": [spec.name for spec in self.inputs if not spec.optional],
                    "additionalProperties": False,
                },
                "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
            },
            "required": ["input_data"],
            "additionalProperties": False,
        }

    def example(self) -> dict[str, Any] | None:
        """Return a request body of the right form, zeros and empty texts; None where it would fill pages."""
        tensors = {}
        for spec in self.inputs:
            if spec.optional:
                continue
            shape = [1 if size == -1 else size for size in spec.shape]
            if int(np.prod(shape, dtype=object)) > _MAX_EXAMPLE_ELEMENTS:
                return None
            filler: Any = "" if spec.datatype == BYTES else np.zeros((), NUMPY_DATATYPES[spec.datatype]).item()
            tensors[spec.name] = np.full(shape, filler, dtype=object).tolist()
        return {"input_data": tensors}


def _check_tensor(array: npt.NDArray[Any], spec: TensorSpec, *, param: str, allow_nonfinite: bool) -> None:
    if find_datatype(array) != spec.datatype:
        detail = f"The datatype must be {spec.datatype}; this is {find_datatype(array) or array.dtype}."
        raise InvalidInput(param, detail, reason="wrong_datatype")
    if not spec.fits(array.shape):
        detail = f"The shape must be {spec.shown_shape}; this is {list(array.shape)}."
        raise InvalidInput(param, detail, reason="wrong_shape")
    if spec.datatype == BYTES:
        _check_texts(array, param=param)
    elif array.dtype.kind == "f" and not allow_nonfinite and not np.isfinite(array).all():
        raise InvalidInput(param, "NaN and infinities are not taken by this version.", reason="not_finite")


def _check_texts(array: npt.NDArray[Any], *, param: str) -> None:
    for element in array.flat:
        if not isinstance(element, bytes):
            raise InvalidInput(param, "Each element must be bytes.", reason="wrong_datatype")
        try:
            element.decode()
        except UnicodeDecodeError:
            raise InvalidInput(param, "Each element must be UTF-8 text.", reason="wrong_encoding") from None


def _schema_of(spec: TensorSpec) -> dict[str, Any]:
    """Return the JSON Schema of one tensor's nested lists."""
    schema = _schema_of_element(spec.datatype)
    if spec.any_rank:
        return {"description": f"{spec.datatype}, nested as deep as the tensor has dimensions."}
    for size in reversed(spec.shape):
        schema = {"type": "array", "items": schema}
        if size != -1:
            schema |= {"minItems": size, "maxItems": size}
    return {"description": f"{spec.datatype} {spec.shown_shape}", **schema}


def _schema_of_element(datatype: str) -> dict[str, Any]:
    if datatype == BYTES:
        return {"type": "string"}
    if datatype == "BOOL":
        return {"type": "boolean"}
    if datatype.startswith("FP"):
        return {"type": "number"}
    limits = np.iinfo(NUMPY_DATATYPES[datatype])
    return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
