"""Reads a model's signature from its graph, with `onnx` and without running anything."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import onnx

from inference.datatypes import BYTES
from inference.errors import ModelLoadFailed
from inference.signature import Signature, TensorSpec

_DATATYPES: Final[Mapping[int, str]] = {
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.UINT16: "UINT16",
    onnx.TensorProto.UINT32: "UINT32",
    onnx.TensorProto.UINT64: "UINT64",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT16: "INT16",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
    onnx.TensorProto.STRING: BYTES,
}
_MAX_RANK: Final = 8
# A call's tensors travel in one message of at most so many arrays (`wire`).
_MAX_TENSORS: Final = 1_024


# Signatures of so many artifacts are remembered, by hash; each is some kilobytes.
_MAX_REMEMBERED: Final = 1_024
_remembered: Final[dict[str, Signature]] = {}


def signature_of(model: bytes, *, digest: str) -> Signature:
    """Return `read_signature` of a model, remembered by its hash: a large one takes long to parse.

    Raises:
        ModelLoadFailed: as `read_signature`.
    """
    signature = _remembered.get(digest)
    if signature is None:
        signature = read_signature(model)
        if len(_remembered) >= _MAX_REMEMBERED:
            _remembered.clear()
        _remembered[digest] = signature
    return signature


def find_signature(digest: str) -> Signature | None:
    """Return the signature of an artifact that was read before, by its hash."""
    return _remembered.get(digest)


def read_signature(model: bytes) -> Signature:
    """Return what a model takes and gives.

    Raises:
        ModelLoadFailed: it is not ONNX, or takes or gives what cannot be sent: inputs that are no
            tensors, datatypes without a name in the Open Inference Protocol, more than 8 dimensions.
    """
    try:
        graph = onnx.load_model_from_string(model).graph
    except Exception as error:  # protobuf's own class, which it does not promise
        msg = f"not an ONNX model: {error}"
        raise ModelLoadFailed(msg) from error
    with_values = {tensor.name for tensor in graph.initializer} | {tensor.values.name for tensor in graph.sparse_initializer}
    inputs = tuple(_read_input(value, optional=value.name in with_values) for value in graph.input)
    outputs = tuple(_read_output(value) for value in graph.output)
    if not outputs or len(inputs) + len(outputs) > _MAX_TENSORS:
        msg = f"{len(inputs)} inputs and {len(outputs)} outputs"
        raise ModelLoadFailed(msg)
    required = [value for value in graph.input if value.name not in with_values]
    has_rows = _share_first_dimension(required)
    return Signature(inputs=inputs, outputs=outputs, has_rows=has_rows)


def _read_input(value: Any, *, optional: bool) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        msg = f"input {value.name} is a {_name_of_kind(kind)}: only tensors can be sent"
        raise ModelLoadFailed(msg)
    return _read_tensor(value, optional=optional)


def _read_output(value: Any) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind == "tensor_type":
        return _read_tensor(value, optional=False)
    if kind == "sequence_type":
        return TensorSpec(value.name, BYTES, (-1,), kind="sequence")
    if kind == "map_type":
        return TensorSpec(value.name, BYTES, (), kind="map")
    if kind == "optional_type":
        return TensorSpec(value.name, BYTES, (), kind="optional")
    msg = f"output {value.name} is a {_name_of_kind(kind)}, which cannot be answered"
    raise ModelLoadFailed(msg)


def _read_tensor(value: Any, *, optional: bool) -> TensorSpec:
    tensor = value.type.tensor_type
    datatype = _DATATYPES.get(tensor.elem_type)
    if datatype is None:
        known = tensor.elem_type in onnx.TensorProto.DataType.values()
        name = onnx.TensorProto.DataType.Name(tensor.elem_type) if known else tensor.elem_type
        msg = f"{value.name} has datatype {name}, which cannot be sent"
        raise ModelLoadFailed(msg)
    if not tensor.HasField("shape"):
        return TensorSpec(value.name, datatype, (-1,), optional=optional, any_rank=True)
    shape = tuple(dim.dim_value if dim.WhichOneof("value") == "dim_value" and dim.dim_value >= 0 else -1 for dim in tensor.shape.dim)
    if len(shape) > _MAX_RANK:
        msg = f"{value.name} has {len(shape)} dimensions, more than {_MAX_RANK}"
        raise ModelLoadFailed(msg)
    return TensorSpec(value.name, datatype, shape, optional=optional)


def _share_first_dimension(inputs: Iterable[Any]) -> bool:
    """Whether all inputs begin with one variable: the same name, or several that have none."""
    names = set()
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        if not dims or (dims[0].WhichOneof("value") == "dim_value" and dims[0].dim_value >= 0):
            return False
        names.add(dims[0].dim_param)
    return len(names) == 1


def _name_of_kind(kind: str | None) -> str:
    return (kind or "value of no type").removesuffix("_type").replace("_", " ")
