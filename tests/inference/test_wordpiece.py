"""Word pieces as the `tokenizers` library cuts them: its own answers are in `wordpiece.json`."""

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from inference.artifacts import Bundle, load_bundle
from inference.errors import InvalidInput, ModelLoadFailed
from inference.gate.examine import examine
from inference.pipelines.pipeline import PiecePipeline, load_pipeline, takes_text
from inference.pipelines.wordpiece import read_wordpiece
from tests.inference.graphs import graph, tensor
from tests.inference.running import ids, infer, running

GOLDEN = json.loads((Path(__file__).parent / "wordpiece.json").read_text())
DESCRIBED: dict[str, Any] = GOLDEN["cases"][0]["tokenizer"]
FIELDS: dict[str, Any] = {
    "kind": "text", "tokenizer": "tokenizer.json", "pad_id": 0, "max_tokens": 8, "output": "sums", "postprocess": "values", "labels": [],
    "inputs": {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"},
}  # fmt: skip


def masked_sums() -> bytes:
    """Return a model that sums each row's ids where the mask is 1, and adds 1,000 times the types."""
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["kept"]),
        helper.make_node("Mul", ["token_type_ids", "thousand"], ["types"]),
        helper.make_node("Add", ["kept", "types"], ["all"]),
        helper.make_node("Cast", ["all"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "axis"], ["sums"], keepdims=0),
    ]
    shape = ["rows", "time"]
    inputs = [tensor(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask", "token_type_ids")]
    outputs = [tensor("sums", TensorProto.FLOAT, ["rows"])]
    return graph(nodes, inputs, outputs, axis=np.array([1]), thousand=np.array(1000)).SerializeToString()


def write(folder: Path, described: object = DESCRIBED, **fields: object) -> Path:
    (folder / "model.onnx").write_bytes(masked_sums())
    (folder / "tokenizer.json").write_text(json.dumps(described))
    (folder / "pipeline.json").write_text(json.dumps(FIELDS | fields))
    return folder


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_every_text_gets_the_librarys_own_ids(case: dict[str, Any]) -> None:
    tokenizer = read_wordpiece(case["tokenizer"])

    for text, expected in zip(GOLDEN["texts"], case["ids"], strict=True):
        got = tokenizer.ids(text, max_tokens=512)
        assert got == (expected if len(expected) > 2 else []), text  # The two alone are no text: it is refused.


def test_what_is_beyond_max_tokens_is_cut_off_inside_the_special_ids() -> None:
    tokenizer = read_wordpiece(DESCRIBED)

    whole = tokenizer.ids("unaffable film", max_tokens=512)
    assert tokenizer.ids("unaffable film", max_tokens=5) == [*whole[:4], whole[-1]]


@given(st.text(max_size=300))
def test_any_text_becomes_known_ids(text: str) -> None:
    tokenizer = read_wordpiece(DESCRIBED)

    found = tokenizer.ids(text, max_tokens=16)

    assert len(found) <= 16
    assert set(found) <= set(DESCRIBED["model"]["vocab"].values())


def changed(path: str, value: object) -> dict[str, Any]:
    described = copy.deepcopy(DESCRIBED)
    *parents, name = path.split(".")
    place = described
    for parent in parents:
        place = place[parent]
    place[name] = value
    return described


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model", None), ("model.type", "BPE"), ("model.vocab", {}), ("model.vocab", {"a": -1}), ("model.vocab", {"a": "1"}), ("model.unk_token", "?"),
        ("model.continuing_subword_prefix", 1), ("model.max_input_chars_per_word", 101), ("normalizer", None), ("normalizer.type", "Replace"),
        ("normalizer.lowercase", "yes"), ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a+)+$"}}), ("post_processor.type", "ByteLevel"),
        ("post_processor.single", []), ("post_processor.special_tokens", {}), ("post_processor", "x"),
    ],
)  # fmt: skip
def test_another_kind_of_tokenizer_is_refused(tmp_path: Path, path: str, value: object) -> None:
    with pytest.raises(ModelLoadFailed):
        load_pipeline(write(tmp_path, changed(path, value)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 2}, {"pad_id": -1}, {"inputs": {"ids": "a"}}, {"inputs": {"ids": "a", "types": "b"}}, {"inputs": {"ids": "a", "mask": "a"}},
        {"inputs": {"ids": "a", "mask": ""}}, {"vocabulary": "vocabulary.txt"},
    ],
)  # fmt: skip
def test_a_pipeline_that_does_not_fit_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ModelLoadFailed):
        load_pipeline(write(tmp_path, **wrong))


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, "{}"])
def test_a_broken_file_is_refused(tmp_path: Path, content: str) -> None:
    write(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)

    with pytest.raises(ModelLoadFailed):
        load_pipeline(tmp_path)


def test_texts_are_counted_in_pieces_and_refused_like_any(tmp_path: Path) -> None:
    pipeline = load_pipeline(write(tmp_path))
    assert isinstance(pipeline, PiecePipeline)
    assert takes_text(pipeline)

    prepared = pipeline.prepare(["film", "unaffable"], max_rows=4, max_characters=20)
    assert ([row.tolist() for row in prepared.rows], prepared.tokens) == ([[2, 10, 3], [2, 5, 6, 7, 3]], 8)
    for sent, reason in (([" "], "empty_text"), (["x" * 21], "too_many_characters"), ([3], "wrong_type"), (["a"] * 5, "wrong_row_count")):
        with pytest.raises(InvalidInput) as refusal:
            pipeline.prepare(sent, max_rows=4, max_characters=20)
        assert refusal.value.reason == reason
    assert "word pieces" in pipeline.schema()["properties"]["input_data"]["description"]


def test_a_mask_keeps_padding_out_of_the_answer(tmp_path: Path) -> None:
    bundle: Bundle = load_bundle(write(tmp_path, pad_id=9), sha256=None)

    async def scenario() -> None:
        async with running() as engine:
            inferred = await infer(engine, bundle, ids(2, 10, 3), ids(2, 5, 6, 7, 3), ids(1))
            assert inferred.outputs["sums"].tolist() == [15, 23, 1]

    asyncio.run(scenario())


def test_the_gate_examines_a_model_of_word_pieces(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "samples.json").write_text(json.dumps(["a moving film", ["unaffable", "film!"]]))

    report = examine(folder, trusted=True).report

    assert report.passed, report.as_json()
    assert {check.name: check.outcome for check in report.checks}["parity"] == "passed"
