"""Dynamic int8 of a float32 model, without a file: weights become int8, activations are quantized as they come. CPU only.

Imports ONNX Runtime's tools, which read files of their own: import it before the sandbox closes.
"""

import logging

import onnx
from onnx import shape_inference
from onnxruntime.quantization import QuantType, base_quantizer, onnx_quantizer, quant_utils
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode, add_infer_metadata, update_opset_version
from onnxruntime.quantization.registry import IntegerOpsRegistry


def quantize_dynamic(model: bytes) -> bytes | None:
    """Return the model with int8 weights, per output channel; None where it has nothing to quantize.

    The same as `onnxruntime.quantization.quantize_dynamic(per_channel=True, weight_type=QInt8)`, which
    passes through files: the sandbox that a stranger's model is read in has none. A test compares the two.

    Raises:
        Exception: whatever the tools raise on a graph they cannot follow; nothing was made.
    """
    loaded = onnx.load_from_string(model)
    logging.disable(logging.WARNING)  # They advise graph clean-up that changes nothing here, once a tensor.
    try:
        quantized = _quantize(loaded)
    finally:
        logging.disable(logging.NOTSET)
    return quantized if quantized is not None and len(quantized) < len(model) else None


def _quantize(model: onnx.ModelProto) -> bytes | None:
    inferred = update_opset_version(_infer_shapes(model), QuantType.QInt8)
    before = {node.op_type for node in inferred.graph.node}
    quantizer = ONNXQuantizer(
        inferred,
        True,  # Per channel.
        False,  # Full range: reduced range is for CPUs without VNNI, where saturation would cost accuracy.
        QuantizationMode.IntegerOps,
        False,  # Not static: no calibration data is needed.
        QuantType.QInt8,
        QuantType.QUInt8,
        None,
        [],
        [],
        list(IntegerOpsRegistry.keys()),
        {"MatMulConstBOnly": True},
    )
    quantizer.quantize_model()
    made: onnx.ModelProto = quantizer.model.model
    after = {node.op_type for node in made.graph.node}
    return bytes(made.SerializeToString()) if after - before else None


def _infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Do in memory what the tools' own function of this purpose does by way of two files."""
    inferred = shape_inference.infer_shapes(model)
    add_infer_metadata(inferred)
    return inferred


# The quantizer calls it by name from these three; there is no argument for it. A model of 200 MB stays below
# protobuf's 2 GB, which is what the files are for.
for _module in (base_quantizer, onnx_quantizer, quant_utils):
    _module.save_and_reload_model_with_shape_infer = _infer_shapes
