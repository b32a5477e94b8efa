"""What the site says of itself and of a model: Triton's metadata and configuration."""

from collections.abc import Sequence
from typing import Any, Final

from inference.datatypes import BYTES
from inference.signature import Signature, TensorSpec
from marketplace import __version__
from marketplace.gateway.oip.views import SCORE, labels_of, signature_of
from marketplace.gateway.versions import ServedVersion

EXTENSIONS: Final = ("model_repository", "model_configuration", "binary_tensor_data", "parameters", "statistics", "classification")
_PLATFORM: Final = "onnxruntime_onnx"


def describe_server() -> dict[str, Any]:
    """Return the server's metadata."""
    return {"name": "farebox", "version": __version__, "extensions": list(EXTENSIONS)}


def describe_model(version: ServedVersion, *, numbers: Sequence[int]) -> dict[str, Any]:
    """Return a model's metadata: the tensors of one version, and the numbers of all that may be called."""
    signature = signature_of(version)
    return {
        "name": version.model_path,
        "versions": [str(number) for number in numbers],
        "platform": _PLATFORM,
        "inputs": [_describe_tensor(spec) for spec in signature.inputs],
        "outputs": [_describe_tensor(spec) for spec in signature.outputs],
    }


def _describe_tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def configure_model(version: ServedVersion, *, max_rows: int, max_queue_delay_us: int, workers: int, provider: str) -> dict[str, Any]:
    """Return a version's configuration as Triton would write it (ModelConfig as JSON).

    Args:
        version: Which.
        max_rows: Most rows in one call, for a version whose calls have rows.
        max_queue_delay_us: How long a row waits for others, microseconds.
        workers: Processes that run it.
        provider: Where it runs: "cpu" or "cuda".
    """
    signature = signature_of(version)
    kind = "KIND_GPU" if provider == "cuda" else "KIND_CPU"
    config: dict[str, Any] = {
        "name": version.model_path,
        "platform": _PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [version.number]}},
        "max_batch_size": max_rows if signature.has_rows else 0,
        "input": [_configure_tensor(spec, signature) for spec in signature.inputs],
        "output": [_configure_tensor(spec, signature) for spec in signature.outputs],
        "instance_group": [{"name": version.model_path, "kind": kind, "count": workers}],
        "default_model_filename": version.bundle.path.name,
        "parameters": {},
    }
    if signature.has_rows:
        config["dynamic_batching"] = {"preferred_batch_size": [], "max_queue_delay_microseconds": max_queue_delay_us}
    if labels := labels_of(version):
        # In the order of the columns of `score`, and of the indices that classification answers.
        config["parameters"]["labels"] = {"string_value": ",".join(labels)}
        config["parameters"]["labels_of"] = {"string_value": SCORE}
    return config


def _configure_tensor(spec: TensorSpec, signature: Signature) -> dict[str, Any]:
    """Return one tensor's entry; the batch dimension is understood where there is one."""
    data_type = "TYPE_STRING" if spec.datatype == BYTES else f"TYPE_{spec.datatype}"
    dims = list(spec.shape[1:] if signature.has_rows and spec.shape[:1] == (-1,) else spec.shape)
    # Triton has no empty dims: one value a row is written [1].
    return {"name": spec.name, "data_type": data_type, "dims": dims or [1]}
