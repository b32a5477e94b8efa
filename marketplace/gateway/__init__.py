"""The metered call: a plain ASGI application beside Django (`docs/architecture.md`)."""
