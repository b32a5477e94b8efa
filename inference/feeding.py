"""What a graph is fed for the rows of its pipeline: padded ids and their lengths, or decoded pictures. In workers and the gate.

Pillow is loaded here, with the two formats that it shall read: in a sandbox nothing can be loaded later.
"""

import io
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin, PngImagePlugin

from inference.arrays import Arrays
from inference.errors import InvalidInput
from inference.tensors import MAX_PIXELS, Collation, ImageCollation, pad_rows

_FORMATS: Final = (PngImagePlugin.PngImageFile.format, JpegImagePlugin.JpegImageFile.format)
# Others (16 and 32 bits a color) would be cut off silently, where the caller means their whole range.
_MODES: Final = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
# Two rows of unequal length: the padded path is warm before a caller needs it.
_WARM_UP: Final = (np.zeros(3, dtype=np.int64), np.array([1, 2], dtype=np.int64))


def feeds_of(collation: Collation | ImageCollation, flat: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> Arrays:
    """Return the graph's inputs for rows that run together.

    Args:
        collation: Of the version's pipeline.
        flat: The rows, one after the other: ids, or the bytes of files.
        lengths: `(rows,)`, each >= 1.

    Raises:
        InvalidInput: a file is no picture that can be decoded.
        ValueError: the lengths do not describe `flat`.
    """
    if isinstance(collation, Collation):
        return _id_feeds(collation, pad_rows(flat, lengths, pad_id=collation.pad_id), lengths)
    if lengths.size == 0 or int(lengths.min()) < 1 or int(lengths.sum()) != flat.size:
        msg = f"{lengths.size} lengths do not describe {flat.size} bytes"
        raise ValueError(msg)
    ends = np.cumsum(lengths).tolist()
    files = [flat[end - length : end].tobytes() for end, length in zip(ends, lengths.tolist(), strict=True)]
    return {collation.image_input: picture_rows(files, collation)}


def _id_feeds(collation: Collation, ids: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Arrays:
    feeds = {collation.ids_input: ids}
    if collation.lengths_input:
        feeds[collation.lengths_input] = lengths
    if collation.mask_input:
        feeds[collation.mask_input] = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
    if collation.types_input:
        feeds[collation.types_input] = np.zeros_like(ids)
    return feeds


def picture_rows(files: list[bytes], collation: ImageCollation) -> npt.NDArray[np.float32]:
    """Return pictures as the graph takes them, float32, first axis = rows.

    Raises:
        InvalidInput: one cannot be decoded.
    """
    values = np.stack([_pixels(content, collation) for content in files])  # (rows, height, width, channels)
    # In place: a batch of large pictures has hundreds of megabytes.
    values /= np.float32(collation.scale)
    values -= np.array(collation.mean, np.float32)
    values /= np.array(collation.std, np.float32)
    if collation.layout == "nchw":
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
    if collation.layout == "flat":
        return values.reshape(len(files), -1)
    return values[..., 0] if collation.layout == "nhw" else values


def warm_up_rows(collation: Collation | ImageCollation) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return two rows that any model of this kind takes, as `feeds_of` takes them."""
    return _WARM_UP if isinstance(collation, Collation) else _blank_pictures(collation, rows=2)


def measured_rows(collation: Collation | ImageCollation, *, rows: int, steps: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], int]:
    """Return rows to time, as `feeds_of` takes them, and how many steps long each of them counts."""
    if isinstance(collation, ImageCollation):
        return *_blank_pictures(collation, rows=rows), 1
    return np.zeros(rows * steps, dtype=np.int64), np.full(rows, steps, dtype=np.int64), steps


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture `(height, width)` or `(height, width, 3)` as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _blank_pictures(collation: ImageCollation, *, rows: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    content = encode_png(np.zeros((collation.height, collation.width), dtype=np.uint8))
    return np.frombuffer(content * rows, dtype=np.uint8), np.full(rows, len(content), dtype=np.int64)


def _pixels(content: bytes, collation: ImageCollation) -> npt.NDArray[np.float32]:
    """Return a picture of the size and colors wanted, `(height, width, channels)`, 0 to 255."""
    mode = "L" if collation.channels == 1 else "RGB"
    size = collation.width, collation.height
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            colored = picture.convert(mode) if picture.width * picture.height <= MAX_PIXELS and picture.mode in _MODES else None
    except Exception as error:  # Pillow raises whatever a broken file leads it to.
        raise InvalidInput(param="input_data", detail=str(error)[:200], reason="undecodable") from error
    if colored is None:
        raise InvalidInput(param="input_data", detail="too many pixels, or more than 8 bits a color", reason="undecodable")
    if colored.size != size:
        # Antialiased: each pixel of the result is the mean of those it stands for, as training pipelines have it.
        colored = colored.resize(size, Image.Resampling.BILINEAR, box=_box(colored.size, size, crop=collation.resize == "crop"))
    return np.asarray(colored, dtype=np.float32).reshape(collation.height, collation.width, collation.channels)


def _box(have: tuple[int, int], want: tuple[int, int], *, crop: bool) -> tuple[float, float, float, float]:
    """Return the part of a picture that is shown: all of it, or the largest middle part of the shape wanted."""
    if not crop:
        return 0, 0, have[0], have[1]
    scale = min(have[0] / want[0], have[1] / want[1])
    width, height = want[0] * scale, want[1] * scale
    left, top = (have[0] - width) / 2, (have[1] - height) / 2
    return max(0.0, left), max(0.0, top), min(float(have[0]), left + width), min(float(have[1]), top + height)
