"""A version's files, read whole and under a limit."""

from pathlib import Path

from inference.errors import ModelLoadFailed


def read_bounded(path: Path, *, limit_bytes: int) -> bytes:
    """Return a file's bytes, if they are no more than `limit_bytes`.

    Raises:
        ModelLoadFailed: it is absent, unreadable or larger; no more than the limit was read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except OSError as error:
        msg = f"{path.name} cannot be read: {error.strerror}"
        raise ModelLoadFailed(msg) from error
    if len(content) > limit_bytes:
        msg = f"{path.name} is larger than {limit_bytes} bytes"
        raise ModelLoadFailed(msg)
    return content


def read_text(path: Path, *, limit_bytes: int) -> str:
    """Return a file's text, if it is UTF-8 of no more than `limit_bytes`.

    Raises:
        ModelLoadFailed: it is absent, unreadable, larger or no UTF-8.
    """
    try:
        return read_bounded(path, limit_bytes=limit_bytes).decode()
    except UnicodeDecodeError as error:
        msg = f"{path.name} is not UTF-8: {error}"
        raise ModelLoadFailed(msg) from error
