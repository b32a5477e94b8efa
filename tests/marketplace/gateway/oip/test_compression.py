"""Bodies are inflated under a cap, and replies compressed only as the caller can read them."""

import gzip
import zlib

import pytest

from marketplace.errors import BodyTooLarge, HeaderInvalid, RequestMalformed
from marketplace.gateway.oip.compression import accepted_encoding, compress, inflate

TEXT = b"some text, " * 500
GZIPPED = gzip.compress(TEXT, mtime=0)  # Otherwise every test process would give the tests other names.


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(TEXT, None), (TEXT, "identity"), (GZIPPED, "gzip"), (GZIPPED, " GZIP "), (zlib.compress(TEXT), "deflate")],
)
def test_a_body_is_read_as_its_encoding_says(body: bytes, encoding: str | None) -> None:
    assert inflate(body, encoding, limit_bytes=len(TEXT)) == TEXT


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x" * 9000])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(HeaderInvalid):
        inflate(TEXT, encoding, limit_bytes=10**6)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (TEXT, "gzip"),
        (GZIPPED, "deflate"),
        (GZIPPED[:-9], "gzip"),
        (GZIPPED + b"more", "gzip"),
        (GZIPPED + GZIPPED, "gzip"),
        (b"", "gzip"),
    ],
)
def test_what_is_not_one_whole_stream_is_refused(body: bytes, encoding: str) -> None:
    with pytest.raises(RequestMalformed):
        inflate(body, encoding, limit_bytes=10**6)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_refused_at_the_cap(encoding: str) -> None:
    bomb = compress(bytes(50_000_000), encoding)
    assert len(bomb) < 1_000_000

    with pytest.raises(BodyTooLarge):
        inflate(bomb, encoding, limit_bytes=1_000_000)


def test_a_body_of_exactly_the_cap_passes() -> None:
    assert len(inflate(gzip.compress(bytes(1000)), "gzip", limit_bytes=1000)) == 1000
    with pytest.raises(BodyTooLarge):
        inflate(gzip.compress(bytes(1001)), "gzip", limit_bytes=1000)


@pytest.mark.parametrize(
    ("accept", "size_bytes", "expected"),
    [
        (None, 5000, None),
        ("", 5000, None),
        ("br", 5000, None),
        ("gzip", 5000, "gzip"),
        ("deflate", 5000, "deflate"),
        ("gzip, deflate, br", 5000, "gzip"),
        ("gzip;q=0, deflate;q=0.5", 5000, "deflate"),
        ("gzip", 500, None),
        ("gzip", 50_000_000, None),
    ],
)
def test_a_reply_is_compressed_as_the_caller_accepts(accept: str | None, size_bytes: int, expected: str | None) -> None:
    assert accepted_encoding(accept, size_bytes=size_bytes) == expected


@pytest.mark.parametrize(("encoding", "read"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_what_is_compressed_can_be_read(encoding: str, read: object) -> None:
    assert callable(read)
    assert read(compress(TEXT, encoding)) == TEXT
