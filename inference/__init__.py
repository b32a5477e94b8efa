"""Run ONNX models: tensors, batching, sandboxed workers. A library without Django."""
