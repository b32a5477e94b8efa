"""The marketplace's schema, step by step."""
