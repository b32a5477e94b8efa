"""Images in, classes out: checked by their heads at the door, decoded in the worker, batched."""

import asyncio
import io
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.artifacts import Bundle, load_bundle
from inference.batching import BatchLimits
from inference.engine import Engine, Inferred
from inference.errors import InvalidInput, ModelLoadFailed
from inference.feeding import feeds_of, picture_rows
from inference.gate.examine import examine
from inference.pipelines.image_heads import find_size
from inference.pipelines.pipeline import ImagePipeline, load_pipeline
from inference.tensors import MAX_IMAGE_BYTES, ImageCollation, collation_from_json
from tests.inference.pictures import BLUE, GREEN, RED, picture, text, write
from tests.inference.running import running


def pipeline(tmp_path: Path, **fields: object) -> ImagePipeline:
    made = load_pipeline(write(tmp_path, **fields))
    assert isinstance(made, ImagePipeline)
    return made


def prepare(made: ImagePipeline, input_data: object) -> Any:
    return made.prepare(input_data, max_rows=4, max_characters=1)


def png_head(width: int, height: int) -> bytes:
    """Return a PNG that says it has this size, and has next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")


# ------------------------------------------------------------ At the door


def test_an_image_is_one_row_of_its_file_whatever_way_it_was_sent(tmp_path: Path) -> None:
    made, content = pipeline(tmp_path), picture(RED)

    for sent in (text(content), "data:image/png;base64," + text(content), content):
        prepared = prepare(made, sent)
        (row,) = prepared.rows
        assert (row.tobytes(), len(row), prepared.single, prepared.tokens) == (content, 1, True, 1)
    several = prepare(made, [text(content)] * 3)
    assert (len(several.rows), several.single, several.tokens) == (3, False, 3)


def test_large_images_are_longer_rows_and_their_pixels_are_counted_by_the_call(tmp_path: Path) -> None:
    made = pipeline(tmp_path)
    large = picture(RED, size=(4_096, 4_096))

    rows = prepare(made, [text(large), text(picture(RED, size=(1_024, 1_024))), text(picture(RED, size=(1_025, 1_024)))]).rows

    assert [len(row) for row in rows] == [16, 1, 2]
    assert rows[0].tobytes()[: len(large)] == large
    assert rows[0].size - len(large) < 16
    with pytest.raises(InvalidInput) as refusal:
        prepare(made, [text(large), text(large), text(picture(RED))])
    assert (refusal.value.param, refusal.value.reason) == ("input_data[2]", "image_too_large")


@pytest.mark.parametrize(
    ("sent", "param", "reason"),
    [
        ([], "input_data", "wrong_row_count"),
        ([""] * 5, "input_data", "wrong_row_count"),
        (7, "input_data", "wrong_type"),
        ([text(picture(RED)), 7], "input_data[1]", "wrong_type"),
        ("not base64!", "input_data", "wrong_encoding"),
        ("\u4e2d", "input_data", "wrong_encoding"),
        ("", "input_data", "wrong_encoding"),
        ("data:image/png,abc", "input_data", "wrong_encoding"),
        (text(b"GIF89a" + bytes(40)), "input_data", "wrong_encoding"),
        (text(b"<svg/>"), "input_data", "wrong_encoding"),
        (text(b"\x89PNG\r\n\x1a\n"), "input_data", "wrong_encoding"),
        (text(b"\xff\xd8\xff\xe0"), "input_data", "wrong_encoding"),
        (text(png_head(100_000, 100_000)), "input_data", "image_too_large"),
        (text(png_head(0, 5)), "input_data", "image_too_large"),
        (text(png_head(4_097, 4_096)), "input_data", "image_too_large"),
        (text(picture(RED) + bytes(MAX_IMAGE_BYTES)), "input_data", "image_too_large"),
    ],
)
def test_what_is_no_image_or_too_large_a_one_is_refused_undecoded(tmp_path: Path, sent: object, param: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        prepare(pipeline(tmp_path), sent)

    assert (refusal.value.param, refusal.value.reason) == (param, reason)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(1, 1), (300, 7), (65, 1000)])
def test_a_size_is_read_from_the_head_as_pillow_reads_it(kind: str, size: tuple[int, int]) -> None:
    assert find_size(picture(RED, size=size, kind=kind)) == size


def test_a_progressive_jpeg_with_a_profile_tells_its_size() -> None:
    file = io.BytesIO()
    Image.new("RGB", (33, 44)).save(file, "JPEG", progressive=True, icc_profile=bytes(100_000), exif=b"Exif\0\0" + bytes(2_000))

    assert find_size(file.getvalue()) == (33, 44)


def test_any_beginning_of_a_file_is_read_without_an_error() -> None:
    for kind in ("PNG", "JPEG"):
        content = picture(RED, kind=kind)
        for end in range(len(content)):
            assert find_size(content[:end]) in {None, (20, 10)}


def test_the_example_and_the_schema_are_the_pipelines_own(tmp_path: Path) -> None:
    made = pipeline(tmp_path)

    prepare(made, made.example()["input_data"])
    assert made.schema()["properties"]["input_data"]["oneOf"][0]["contentEncoding"] == "base64"
    assert "6 x 8 pixels" in made.schema()["properties"]["input_data"]["description"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "video"}, {"color": "cmyk"}, {"height": 0}, {"width": 4_096}, {"resize": "tile"}, {"scale": 0}, {"scale": "255"}, {"mean": [0.5]},
        {"mean": [0, 0, "x"]}, {"std": [1, 1, 0]}, {"std": [1, 1, True]}, {"layout": "hwcn"}, {"layout": "nhw"}, {"labels": ["a", 1]}, {"input": ""},
        {"height": 2_048, "width": 2_048}, {"scale": float("nan")}, {"more": 1},
    ],
)  # fmt: skip
def test_a_pipeline_that_says_what_is_not_known_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ModelLoadFailed):
        pipeline(tmp_path, **wrong)


# ------------------------------------------------------------ Decoding


def collation(**fields: object) -> ImageCollation:
    usual: dict[str, Any] = {
        "image_input": "x", "output": "y", "channels": 1, "height": 2, "width": 2, "resize": "stretch", "layout": "nhw", "scale": 1.0,
        "mean": (0.0,), "std": (1.0,),
    }  # fmt: skip
    return ImageCollation(**usual | fields)


def png(pixels: Sequence[object]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_pixels_are_scaled_and_normalized() -> None:
    rows = picture_rows([png([[0, 255], [51, 102]])], collation(scale=255.0, mean=(0.5,), std=(0.25,)))

    assert rows[0].ravel().tolist() == pytest.approx([-2.0, 2.0, (0.2 - 0.5) / 0.25, (0.4 - 0.5) / 0.25])
    assert rows.dtype == np.float32


def test_each_layout_has_its_shape_and_order() -> None:
    two = png([[[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[11, 12, 13], [14, 15, 16], [17, 18, 19]]])
    usual = {"channels": 3, "height": 2, "width": 3, "mean": (0.0,) * 3, "std": (1.0,) * 3}

    shaped = {layout: picture_rows([two], collation(**usual, layout=layout)) for layout in ("nchw", "nhwc", "flat")}

    assert shaped["nhwc"].shape == (1, 2, 3, 3)
    assert shaped["nhwc"][0, 1, 2].tolist() == [17, 18, 19]
    assert shaped["nchw"].shape == (1, 3, 2, 3)
    assert shaped["nchw"][0, :, 1, 2].tolist() == [17, 18, 19]
    assert shaped["flat"].tolist() == [shaped["nhwc"].ravel().tolist()]
    assert picture_rows([png([[1, 2], [3, 4]])], collation()).tolist() == [[[1, 2], [3, 4]]]


def test_colors_become_grey_and_grey_becomes_colors() -> None:
    grey = picture_rows([picture(RED, size=(2, 2))], collation())
    colored = picture_rows([picture((9,), size=(2, 2), mode="L")], collation(channels=3, layout="nhwc", mean=(0,) * 3, std=(1,) * 3))

    assert grey[0, 0, 0] == 76  # ITU-R 601: 0.299 of red.
    assert colored[0, 0, 0].tolist() == [9, 9, 9]


def test_stretching_keeps_all_of_a_picture_and_cropping_its_middle() -> None:
    wide = png([[0, 0, 100, 100, 200, 200]] * 2)

    assert picture_rows([wide], collation(resize="crop"))[0].tolist() == [[100, 100], [100, 100]]
    stretched = picture_rows([wide], collation(resize="stretch", width=3))[0][0]
    assert stretched[0] < stretched[1] == 100 < stretched[2]
    tall = png([[0]] * 4 + [[100]] * 4 + [[200]] * 4)
    assert picture_rows([tall], collation(resize="crop", height=4, width=1))[0].ravel().tolist() == [100] * 4


@pytest.mark.parametrize("content", [picture(RED)[:-40], picture(RED, kind="JPEG")[:200], png_head(20, 20), b"", b"GIF89a" + bytes(99)])
def test_a_broken_picture_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput):
        picture_rows([content], collation())


def test_more_than_eight_bits_a_color_are_refused_not_cut_off() -> None:
    file = io.BytesIO()
    Image.fromarray(np.array([[40_000, 1], [2, 3]], np.uint16)).save(file, "PNG")

    with pytest.raises(InvalidInput):
        picture_rows([file.getvalue()], collation())


def test_a_collation_survives_being_told_as_json() -> None:
    told = collation(mean=(0.25,), std=(0.5,))

    assert collation_from_json(json.loads(json.dumps(told.as_json()))) == told


def test_lengths_that_do_not_describe_the_files_are_an_error() -> None:
    with pytest.raises(ValueError, match="do not describe"):
        feeds_of(collation(), np.zeros(4, np.uint8), np.array([3]))


# ------------------------------------------------------------ Through the engine and the gate


async def infer(engine: Engine, bundle: Bundle, *pictures: bytes) -> Inferred:
    assert bundle.pipeline
    prepared = bundle.pipeline.prepare([text(one) for one in pictures], max_rows=64, max_characters=1)
    deadline = asyncio.get_running_loop().time() + 20
    return await engine.infer(bundle, prepared.rows, tenant="a", deadline=deadline)


def labels(bundle: Bundle, inferred: Inferred, rows: int) -> list[str]:
    assert bundle.pipeline
    prepared = bundle.pipeline.prepare([text(picture(RED))] * rows, max_rows=64, max_characters=1)
    return [row[0]["label"] for row in bundle.pipeline.render(prepared, inferred.outputs, {})]


def test_images_of_any_size_and_kind_are_answered_in_batches_in_their_order(tmp_path: Path) -> None:
    bundle = load_bundle(write(tmp_path), sha256=None)
    sent = [
        picture(GREEN, size=(50, 3)),
        picture(RED, kind="JPEG"),
        picture((0, 0, 255, 9), mode="RGBA"),
        picture(BLUE, size=(6, 8)),
        picture(RED, size=(1_500, 1_001)),
    ]

    async def scenario() -> None:
        async with running() as engine:
            inferred = await infer(engine, bundle, *sent)
            assert labels(bundle, inferred, 5) == ["green", "red", "blue", "blue", "red"]
            calls = [infer(engine, bundle, sent[at % 5]) for at in range(20)]
            together = await asyncio.gather(*calls)
            assert [labels(bundle, one, 1)[0] for one in together] == ["green", "red", "blue", "blue", "red"] * 4
            assert max(one.batch_rows for one in together) > 1
            np.testing.assert_allclose(inferred.outputs["logits"][3], [-3, -3, 3], atol=1e-6)

    asyncio.run(scenario())


def test_a_broken_image_fails_alone_and_is_the_callers_fault(tmp_path: Path) -> None:
    bundle = load_bundle(write(tmp_path), sha256=None)

    async def scenario() -> None:
        async with running() as engine:
            broken = infer(engine, bundle, picture(RED), picture(BLUE)[:-40])
            answers = await asyncio.gather(
                infer(engine, bundle, picture(RED)), broken, infer(engine, bundle, picture(BLUE)), return_exceptions=True
            )
            refused = answers[1]
            assert isinstance(refused, InvalidInput)
            assert (refused.param, refused.reason) == ("input_data[1]", "undecodable")
            assert [labels(bundle, one, 1) for one in (answers[0], answers[2])] == [["red"], ["blue"]]  # type: ignore[arg-type]
            assert engine.stats().restarts == 0

    asyncio.run(scenario())


def test_a_batch_of_the_largest_files_fits_a_message_and_large_pictures_run_in_small_batches(tmp_path: Path) -> None:
    limits = load_bundle(write(tmp_path), sha256=None, limits=BatchLimits(max_rows=256, max_tokens=10_000)).limits

    assert limits
    assert limits.max_rows * MAX_IMAGE_BYTES < 256 * 2**20
    assert limits.max_tokens // 16 == 4  # Of 16.7 million pixels each: 0.8 s of decoding.


def test_a_model_that_takes_something_else_is_refused_at_the_load(tmp_path: Path) -> None:
    bundle = load_bundle(write(tmp_path, height=9), sha256=None)

    async def scenario() -> None:
        async with running() as engine:
            with pytest.raises(ModelLoadFailed):
                await infer(engine, bundle, picture(RED))

    asyncio.run(scenario())


def test_the_gate_examines_an_image_model_on_made_pictures_and_on_samples(tmp_path: Path) -> None:
    folder = write(tmp_path)
    without = examine(folder, trusted=True).report
    assert without.passed, without.as_json()
    (folder / "samples.json").write_text(json.dumps([text(picture(RED)), [text(picture(BLUE, size=(9, 9))), text(picture(GREEN))]]))
    with_samples = examine(folder, trusted=True).report
    assert with_samples.passed, with_samples.as_json()
    assert {check.name: check.outcome for check in with_samples.checks}["parity"] == "passed"
    (folder / "samples.json").write_text(json.dumps([text(picture(RED)[:-40])]))
    broken = examine(folder, trusted=True).report

    assert not broken.passed
    assert "cannot be decoded" in str(broken.as_json())
