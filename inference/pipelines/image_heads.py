"""The size that a PNG or JPEG says it has, read from its head alone: nothing is decoded at the door."""

import struct
from typing import Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8"
# Start of frame: 0xC0 to 0xCF, but DHT (C4), JPG (C8) and DAC (CC).
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Segments before the frame: profiles and previews come in pieces of 64 kB, and a file has 4 MB.
_MAX_SEGMENTS: Final = 1_024


def is_picture(content: bytes) -> bool:
    """Whether a file begins as a PNG or a JPEG does."""
    return content.startswith((_PNG, _JPEG))


def find_size(content: bytes) -> tuple[int, int] | None:
    """Return a picture's width and height; None where it is neither a PNG nor a JPEG.

    Source: PNG (W3C) section 11.2.2; JPEG (ITU T.81) section B.1.1.4 and B.2.2.
    """
    if content.startswith(_PNG):
        if len(content) < 24 or content[12:16] != b"IHDR":
            return None
        width, height = struct.unpack_from(">II", content, 16)
        return width, height
    if content.startswith(_JPEG):
        return _find_frame(content)
    return None


def _find_frame(content: bytes) -> tuple[int, int] | None:
    at = 2
    for _ in range(_MAX_SEGMENTS):
        while content[at : at + 2] == b"\xff\xff":  # Fill bytes.
            at += 1
        if len(content) < at + 9 or content[at] != 0xFF:
            return None
        marker = content[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # Without a length.
            at += 2
            continue
        (size,) = struct.unpack_from(">H", content, at + 2)
        if size < 2:
            return None
        at += 2 + size
    return None
