"""Checks of a parsed model's graph: pure functions, nothing is run or loaded.

ONNX Runtime trusts a model loaded from bytes to read any file under the working directory
(`external_data`), so every tensor of every graph, function and attribute is looked at.
"""

from collections.abc import Iterator
from typing import Final

import onnx

from inference.gate.limits import GateLimits
from inference.gate.report import Check, failed, passed, warned
from inference.gate.walk import Walk, WalkLimit

# What quantization by ONNX Runtime's own tools makes (MODELS section 3); any other contrib op is refused.
QUANTIZED_OPS: Final = frozenset({
    "DequantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits", "QAttention",
    "QEmbedLayerNormalization", "QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool",
    "QLinearLeakyRelu", "QLinearMul", "QLinearReduceMean", "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QuantizeLinear",
    "ReduceSumInteger",
})  # fmt: skip
_STANDARD: Final = ("", "ai.onnx", "ai.onnx.ml")
# The CUDA provider has these up to opset 21; from 22 on they may be placed on the CPU.
_RECURRENT: Final = frozenset({"LSTM", "GRU", "RNN"})
_LAST_CUDA_RECURRENT_OPSET: Final = 21
_SHOWN: Final = 5

_ARCHIVES: Final = (
    (b"PK\x03\x04", "a zip archive (PyTorch's .pt and .pth, NumPy's .npz and Keras's .keras are such)"),
    (b"\x1f\x8b", "gzip"),
    (b"\x80", "a Python pickle"),
    (b"\x89HDF", "HDF5 (Keras's .h5)"),
    (b"GGUF", "GGUF"),
    (b"version https://git-lfs", "a Git LFS pointer: the file itself is elsewhere"),
    (b"<", "HTML or XML"),
    (b"{", "JSON"),
)


def check_graph(content: bytes, limits: GateLimits) -> Iterator[Check]:
    """Yield a check for each thing that may be wrong with an ONNX file; the first ones decide whether others are made."""
    if len(content) > limits.max_bytes:
        yield failed("size", f"The file has {len(content)} bytes; at most {limits.max_bytes} are taken.")
        return
    yield passed("size", f"{len(content)} bytes of at most {limits.max_bytes}.")
    model = _parse(content)
    if isinstance(model, str):
        yield failed("format", model)
        return
    yield passed("format", f"ONNX, IR version {model.ir_version}.")
    try:
        walk = Walk(model, limits)
    except WalkLimit as error:
        yield failed("graph", str(error))
        return
    yield _opset(model, limits)
    yield _operators(model, walk)
    yield _joined("external_data", walk.external, "All weights are inside the file.", "Weights outside the file are refused")
    yield _joined("sparse", walk.sparse, "No sparse tensors.", "Sparse tensors are refused")
    yield _joined("shapes", walk.shapes, _shape_summary(walk, limits), "Shapes out of bounds")
    yield _size_of_graph(walk, limits)
    yield _names(model, limits)
    if (placement := _recurrent_on_cuda(model, walk)) is not None:
        yield placement


def _parse(content: bytes) -> onnx.ModelProto | str:
    """Return the model, or a sentence that says what the bytes are instead."""
    if content[4:8] == b"ORTM":
        return "This is ONNX Runtime's own format, which skips checks. Send the plain .onnx file."
    for magic, name in _ARCHIVES:
        if content.startswith(magic):
            return f"This is no ONNX file: it looks like {name}. Send the plain .onnx file."
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # noqa: BLE001 (protobuf's own class differs between its three implementations)
        return f"This is no ONNX file: {str(error)[:200]}"
    if not model.graph.node or not model.ir_version or not model.opset_import:
        return "This is no ONNX file: it has no graph, no version or no operator set."
    return model


def _opset(model: onnx.ModelProto, limits: GateLimits) -> Check:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx"))
    if opset is None:
        return failed("opset", "The file names no version of the standard operators (ai.onnx).")
    if not limits.min_opset <= opset <= limits.max_opset:
        return failed("opset", f"Opset {opset} is outside {limits.min_opset} to {limits.max_opset}.")
    return passed("opset", f"Opset {opset}.")


def _operators(model: onnx.ModelProto, walk: Walk) -> Check:
    """Allow the standard operators, what quantization makes, and functions that the file itself defines."""
    if model.training_info:
        return failed("operators", "The file holds training graphs. Export it for inference.")
    for function in model.functions:
        if function.domain in _STANDARD:
            return failed("operators", f"The file replaces the standard operator {function.name[:80]!r} by a function of its own.")
    own = {(function.domain, function.name) for function in model.functions}
    foreign = sorted(
        f"{domain or 'ai.onnx'}::{name}"[:120]
        for domain, name in walk.operators
        if domain not in _STANDARD and (domain, name) not in own and not (domain == "com.microsoft" and name in QUANTIZED_OPS)
    )
    if foreign:
        return failed("operators", f"Operators of other domains than ai.onnx and ai.onnx.ml are refused: {_some(foreign)}.")
    return passed("operators", f"{len(walk.operators)} kinds, all standard, of quantization, or defined in the file.")


def _joined(name: str, findings: list[str], otherwise: str, refusal: str) -> Check:
    return failed(name, f"{refusal}: {_some(findings)}.") if findings else passed(name, otherwise)


def _some(findings: list[str]) -> str:
    shown = ", ".join(findings[:_SHOWN])
    return f"{shown} and {len(findings) - _SHOWN} more" if len(findings) > _SHOWN else shown


def _shape_summary(walk: Walk, limits: GateLimits) -> str:
    return (
        f"Rank at most {limits.max_rank}; the largest tensor known beforehand has {walk.largest} elements of at most {limits.max_elements}."
    )


def _size_of_graph(walk: Walk, limits: GateLimits) -> Check:
    if walk.nodes > limits.max_nodes:
        return failed("graph", f"{walk.described_nodes} nodes; at most {limits.max_nodes} are taken.")
    return passed("graph", f"{walk.nodes} nodes, {walk.depth} graphs deep.")


def _names(model: onnx.ModelProto, limits: GateLimits) -> Check:
    """Inputs' and outputs' names become JSON fields, headers of tables and log lines."""
    inputs, outputs = ([value.name for value in values] for values in (model.graph.input, model.graph.output))
    if not outputs or len(inputs) > limits.max_tensors or len(outputs) > limits.max_tensors:
        return failed(
            "names", f"{len(inputs)} inputs and {len(outputs)} outputs; there must be an output, and at most {limits.max_tensors} of each."
        )
    for name in (*inputs, *outputs):
        if not 0 < len(name) <= limits.max_name_characters or not name.isprintable():
            return failed(
                "names", f"The name {name[:40]!r} is empty, longer than {limits.max_name_characters} characters, or not printable."
            )
    if len(set(inputs)) < len(inputs) or len(set(outputs)) < len(outputs):
        return failed("names", "Two inputs, or two outputs, have one name.")
    return passed("names", f"{len(inputs)} inputs, {len(outputs)} outputs.")


def _recurrent_on_cuda(model: onnx.ModelProto, walk: Walk) -> Check | None:
    opset = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)
    recurrent = sorted(name for domain, name in walk.operators if domain in _STANDARD and name in _RECURRENT)
    if not recurrent:
        return None
    if opset > _LAST_CUDA_RECURRENT_OPSET:
        return warned(
            "cuda_opset",
            f"{', '.join(recurrent)} of opset {opset} may not be found by the CUDA provider: export with opset {_LAST_CUDA_RECURRENT_OPSET} or older to run on a GPU.",
        )
    return passed("cuda_opset", f"{', '.join(recurrent)} of opset {opset}: known to the CUDA provider.")
