"""Recipes that train the starter catalogue. The only package that imports torch; serving never imports this."""

import os

# Read when torch is first imported. The ONNX tracer warns on stderr that it cannot infer the
# shape of packed sequences, three times a run; export.py asserts what it exports instead.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
