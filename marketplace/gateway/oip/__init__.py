"""The Open Inference Protocol v2, so that stock clients call models unmodified (`docs/open-inference-protocol.md`)."""
