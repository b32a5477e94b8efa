"""Declarative pre- and post-processing that a model version carries: data, never code."""
