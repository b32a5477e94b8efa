"""Compressed bodies: what comes is inflated under a cap, what goes is compressed where it was asked for.

Only gzip and deflate (zlib, as RFC 9110 8.4.1.2 means it): the stock client knows no others, and
the asynchronous one offers `br` without being able to read it.
"""

import gzip
import zlib
from typing import Final

from marketplace.errors import BodyTooLarge, HeaderInvalid, RequestMalformed

# zlib's window bits: 15, and 16 more for gzip's frame.
_WINDOW: Final = {"gzip": 31, "deflate": 15}
# Below this a reply fits one packet anyway; above, compressing holds up every other caller: 10 ms a megabyte.
_MIN_BYTES: Final = 1024
_MAX_BYTES: Final = 4 * 2**20
_FASTEST: Final = 1


def inflate(body: bytes, encoding: str | None, *, limit_bytes: int) -> bytes:
    """Return a body as it was before its Content-Encoding.

    Args:
        body: As it came.
        encoding: The Content-Encoding header.
        limit_bytes: Most bytes it may have in full; no more are ever made.

    Raises:
        HeaderInvalid: the encoding is neither gzip nor deflate.
        BodyTooLarge: it is larger in full.
        RequestMalformed: it is not what the encoding says, ends early, or goes on after its end.
    """
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return body
    if name not in _WINDOW:
        message = "content-encoding must be gzip or deflate, if it is sent."
        raise HeaderInvalid(message, param="content-encoding")
    stream = zlib.decompressobj(_WINDOW[name])
    try:
        inflated = stream.decompress(body, limit_bytes + 1)
    except zlib.error:
        message = f"The body is not {name}."
        raise RequestMalformed(message) from None
    if len(inflated) > limit_bytes:
        message = f"The body is larger than {limit_bytes} bytes when inflated."
        raise BodyTooLarge(message)
    if not stream.eof or stream.unused_data:
        message = f"The body is not one whole {name} stream."
        raise RequestMalformed(message)
    return inflated


def accepted_encoding(accept: str | None, *, size_bytes: int) -> str | None:
    """Return the encoding for a reply of so many bytes: gzip, deflate, or None for none.

    Args:
        accept: The Accept-Encoding header; an encoding with `q=0` is refused by the caller.
        size_bytes: Of the reply; very small and very large ones go as they are.
    """
    if not accept or not _MIN_BYTES <= size_bytes <= _MAX_BYTES:
        return None
    offered = {}
    for part in accept[:1000].lower().split(","):
        name, _, parameters = part.partition(";")
        offered[name.strip()] = parameters.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return next((name for name in _WINDOW if offered.get(name)), None)


def compress(body: bytes, encoding: str) -> bytes:
    """Return a body in one of the encodings of `accepted_encoding`."""
    return gzip.compress(body, _FASTEST, mtime=0) if encoding == "gzip" else zlib.compress(body, _FASTEST)
