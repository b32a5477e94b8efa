"""What we wrote on the provider's objects, to know them again."""

from typing import Any
from uuid import UUID


def reference_in(metadata: Any, name: str) -> UUID | None:
    """Return the id of ours that an object carries under a name; None where it carries none, or somebody wrote something else."""
    text = getattr(metadata, name, None)  # No dict: the library's objects have attributes.
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
