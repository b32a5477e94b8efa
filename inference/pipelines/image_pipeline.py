"""The image pipeline of a version: from PNG and JPEG files to rows, checked by their heads and decoded in the worker."""

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from inference.errors import InvalidInput
from inference.pipelines.answers import make_answers
from inference.pipelines.base import Pipeline, Prepared, are_texts, check_fields, examples_of, require, row_of
from inference.pipelines.image_heads import find_size
from inference.tensors import CHANNELS, LAYOUTS, MAX_CALL_PIXELS, MAX_IMAGE_BYTES, MAX_PIXELS, PIXELS_PER_STEP, RESIZES, ImageCollation

_FIELDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "kind": str,
    "input": str,
    "output": str,
    "color": str,
    "height": int,
    "width": int,
    "resize": str,
    "scale": (int, float),
    "mean": list,
    "std": list,
    "layout": str,
    "postprocess": str,
    "labels": list,
}
_MAX_SIDE: Final = 2_048
_MAX_ELEMENTS: Final = 2**21  # Of one row: 8 MB of float32; of a full batch, a quarter of a gigabyte.
# A PNG of 8 x 8 grey pixels: a circle.
_EXAMPLE: Final = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAHklEQVR42mNgYPgPBAwMEBrEghMwYWQGkjySNgYGAJrzJ9keRLrWAAAAAElFTkSuQmCC"


@dataclass(frozen=True, slots=True, eq=False)
class ImagePipeline(Pipeline):
    """What is made of a picture before the model, and of the model's output."""

    images: ImageCollation

    @property
    def collation(self) -> ImageCollation:
        """How a worker makes the graph's input of files."""
        return self.images

    def prepare(self, input_data: object, *, max_rows: int, max_characters: int) -> Prepared:  # noqa: ARG002 (a body's size bounds them)
        """Return the rows of one image or of a list: each in base64 (with or without `data:image/png;base64,`), or as bytes."""
        images, single = examples_of(input_data, (str, bytes), what="an image in base64", max_rows=max_rows)
        rows, pixels_of_call = [], 0
        for position, image in enumerate(images):
            param = "input_data" if single else f"input_data[{position}]"
            content = _decode(image, param)
            pixels = _check_head(content, param)
            pixels_of_call += pixels
            if pixels_of_call > MAX_CALL_PIXELS:
                raise InvalidInput(param, f"The images of a call may have {MAX_CALL_PIXELS} pixels in all.", reason="image_too_large")
            rows.append(row_of(content, length=1 + (pixels - 1) // PIXELS_PER_STEP))
        return Prepared(rows, single, len(rows))

    def schema_of_input(self) -> dict[str, Any]:
        """Describe an image, or a list of them."""
        image = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png", "minLength": 1}
        size = f"{self.images.width} x {self.images.height}"
        return {
            "description": f"A PNG or JPEG in base64, or a list of them. Each is decoded and brought to {size} pixels.",
            "oneOf": [image, {"type": "array", "minItems": 1, "items": image}],
        }

    def example_input(self) -> list[str]:
        """Return a small picture."""
        return [_EXAMPLE]


def make_image_pipeline(fields: Mapping[str, Any]) -> ImagePipeline:
    """Return the pipeline that the fields of `pipeline.json` describe.

    Raises:
        ModelLoadFailed: they say something this version of the code does not know.
    """
    check_fields(fields, _FIELDS)
    require(fields["color"] in CHANNELS, f"color must be one of {sorted(CHANNELS)}")
    channels = CHANNELS[fields["color"]]
    require(fields["resize"] in RESIZES, f"resize must be one of {sorted(RESIZES)}")
    require(fields["layout"] in LAYOUTS, f"layout must be one of {sorted(LAYOUTS)}")
    require(fields["layout"] != "nhw" or channels == 1, "layout nhw has no place for colors")
    sides = fields["height"], fields["width"]
    require(all(1 <= side <= _MAX_SIDE for side in sides), f"height and width must be 1 to {_MAX_SIDE}")
    require(math.prod(sides) * channels <= _MAX_ELEMENTS, f"an image may have {_MAX_ELEMENTS} numbers")
    _require_number(fields["scale"], "scale", least=1e-6)
    for name in ("mean", "std"):
        require(len(fields[name]) == channels, f"{name} must have a number for each of {channels} colors")
        for value in fields[name]:
            _require_number(value, name, least=1e-6 if name == "std" else -1e6)
    require(are_texts(fields["labels"]), "labels must be texts")
    require(are_texts([fields["input"], fields["output"]]), "input and output must be named")
    collation = ImageCollation(
        image_input=fields["input"],
        output=fields["output"],
        channels=channels,
        height=fields["height"],
        width=fields["width"],
        resize=fields["resize"],
        layout=fields["layout"],
        scale=float(fields["scale"]),
        mean=tuple(map(float, fields["mean"])),
        std=tuple(map(float, fields["std"])),
    )
    return ImagePipeline(answers=make_answers(fields["postprocess"], fields["labels"]), images=collation)


def _require_number(value: object, name: str, *, least: float) -> None:
    require(isinstance(value, int | float) and type(value) is not bool and least <= value <= 1e6, f"{name} must be {least:g} to 1e6")


def _decode(image: object, param: str) -> bytes:
    if isinstance(image, bytes):
        return image
    if not isinstance(image, str):
        raise InvalidInput(param, "This is not an image in base64.", reason="wrong_type")
    text = image
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InvalidInput(param, "A data: address must be in base64.", reason="wrong_encoding")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # The latter for letters beyond ASCII.
        raise InvalidInput(param, "This is not base64.", reason="wrong_encoding") from None


def _check_head(content: bytes, param: str) -> int:
    """Return a picture's pixels; refuse what is no PNG or JPEG, and pictures that are small as files and huge as pixels."""
    if len(content) > MAX_IMAGE_BYTES:
        raise InvalidInput(param, f"An image may have {MAX_IMAGE_BYTES} bytes.", reason="image_too_large")
    size = find_size(content)
    if size is None:
        raise InvalidInput(param, "This is neither a PNG nor a JPEG.", reason="wrong_encoding")
    width, height = size
    if not 1 <= width * height <= MAX_PIXELS:
        detail = f"An image may have {MAX_PIXELS} pixels; this has {width} x {height}."
        raise InvalidInput(param, detail, reason="image_too_large")
    return width * height
