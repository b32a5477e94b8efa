"""From a caller's text to rows of ids, and from probabilities to labels."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InvalidInput, ModelFailed, ModelLoadFailed
from inference.pipelines.answers import make_answers
from inference.pipelines.pipeline import Prepared, TextPipeline, load_pipeline
from inference.pipelines.text import character_spans, characters
from inference.tensors import Collation
from tests.inference.models import PIPELINE, WORDS

TEXTS = TextPipeline(
    vocabulary={word: number for number, word in enumerate(WORDS)},
    tokenizer="words",
    unknown_id=1,
    max_tokens=6,
    answers=make_answers("binary", ["negative", "positive"]),
    texts=Collation("ids", "lengths", "probability", pad_id=0),
)


def prepare(input_data: object, *, max_rows: int = 4, max_characters: int = 100) -> Prepared:
    return TEXTS.prepare(input_data, max_rows=max_rows, max_characters=max_characters)


def render(*probabilities: float, parameters: dict[str, Any] | None = None) -> list[list[dict[str, str | float]]]:
    prepared = prepare(["good"] * len(probabilities))
    outputs = {"probability": np.array(probabilities, np.float32).reshape(-1, 1)}
    return TEXTS.render(prepared, outputs, TEXTS.validate_parameters(parameters))


def test_a_text_becomes_the_ids_of_its_words_and_unknown_words_become_one_id() -> None:
    prepared = prepare("Good film, FUN!")

    assert [row.tolist() for row in prepared.rows] == [[2, 4, 1, 5, 8]]
    assert prepared.rows[0].dtype == np.int64
    assert (prepared.single, prepared.tokens) == (True, 5)


def test_what_is_beyond_max_tokens_is_neither_sent_nor_counted() -> None:
    prepared = prepare(["good " * 9, "bad"])

    assert [len(row) for row in prepared.rows] == [6, 1]
    assert (prepared.single, prepared.tokens) == (False, 7)


@pytest.mark.parametrize(
    ("input_data", "param", "reason"),
    [
        ("", "input_data", "empty_text"),
        (["good", "fun", "bad", "  \n"], "input_data[3]", "empty_text"),
        (["good", 3], "input_data[1]", "wrong_type"),
        (["good", ["bad"]], "input_data[1]", "wrong_type"),
        ([], "input_data", "wrong_row_count"),
        (["good"] * 5, "input_data", "wrong_row_count"),
        (["x" * 60, "y" * 41], "input_data[1]", "too_many_characters"),
        (None, "input_data", "wrong_type"),
        (7, "input_data", "wrong_type"),
        ({"text": "good"}, "input_data", "wrong_type"),
    ],
)
def test_input_that_is_no_text_is_refused_naming_the_element_at_fault(input_data: object, param: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        prepare(input_data)

    assert (refusal.value.param, refusal.value.reason, refusal.value.code) == (param, reason, "invalid_input")


@given(st.lists(st.text(), max_size=6))
def test_whatever_is_sent_becomes_valid_rows_or_is_refused(texts: list[str]) -> None:
    try:
        prepared = prepare(texts)
    except InvalidInput:
        return

    assert len(prepared.rows) == len(texts)
    assert all(1 <= len(row) <= 6 and row.min() >= 0 and row.max() < len(WORDS) for row in prepared.rows)
    assert prepared.tokens == sum(map(len, prepared.rows))


def test_each_row_is_answered_with_its_labels_the_likeliest_first() -> None:
    assert render(0.75, 0.25) == [
        [{"label": "positive", "score": 0.75}, {"label": "negative", "score": 0.25}],
        [{"label": "negative", "score": 0.75}, {"label": "positive", "score": 0.25}],
    ]


def test_top_k_keeps_the_likeliest_labels() -> None:
    assert render(0.75, parameters={"top_k": 1}) == [[{"label": "positive", "score": 0.75}]]


@pytest.mark.parametrize("probability", [float("nan"), float("inf"), -0.1, 1.1])
def test_an_output_that_is_no_probability_is_the_models_failure_and_no_answer(probability: float) -> None:
    with pytest.raises(ModelFailed, match="row 1"):
        render(0.5, probability)


def test_an_output_of_another_size_is_the_models_failure() -> None:
    with pytest.raises(ModelFailed, match="for 1 rows"):
        TEXTS.render(prepare("good"), {"probability": np.zeros((1, 3), np.float32)}, {})


@pytest.mark.parametrize(
    ("parameters", "param", "reason"),
    [
        ({"top_k": 0}, "parameters.top_k", "out_of_range"),
        ({"top_k": 3}, "parameters.top_k", "out_of_range"),
        ({"top_k": True}, "parameters.top_k", "out_of_range"),
        ({"top_k": "2"}, "parameters.top_k", "out_of_range"),
        ({"temperature": 1}, "parameters.temperature", "unknown_parameter"),
        ([], "parameters", "wrong_type"),
    ],
)
def test_unknown_or_impossible_parameters_are_refused(parameters: object, param: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        TEXTS.validate_parameters(parameters)

    assert (refusal.value.param, refusal.value.reason) == (param, reason)


def test_the_example_is_accepted_and_the_schema_names_what_it_holds() -> None:
    example, schema = TEXTS.example(), TEXTS.schema()

    prepare(example["input_data"])
    assert TEXTS.validate_parameters(example["parameters"])
    assert set(example) <= set(schema["properties"])
    assert schema["properties"]["parameters"]["properties"]["top_k"]["maximum"] == 2


def write_pipeline(folder: Path, *, words: bytes = "\n".join(WORDS).encode(), **changes: Any) -> Path:
    (folder / "pipeline.json").write_text(json.dumps({k: v for k, v in (PIPELINE | changes).items() if v is not None}))
    (folder / "vocabulary.txt").write_bytes(words)
    return folder


def test_a_folder_is_read_as_it_says(tmp_path: Path) -> None:
    pipeline = load_pipeline(write_pipeline(tmp_path))

    assert pipeline.vocabulary["good"] == 2
    assert len(pipeline.vocabulary) == len(WORDS)
    assert (pipeline.unknown_id, pipeline.max_tokens, pipeline.answers) == (1, 512, make_answers("binary", ["negative", "positive"]))
    assert pipeline.collation == Collation("ids", "lengths", "probability", pad_id=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "image"},
        {"tokenizer": "bytes"},
        {"postprocess": "median"},
        {"extra": 1},
        {"labels": None},
        {"labels": ["one"]},
        {"labels": ["one", ""]},
        {"labels": ["one", 2]},
        {"pad_id": 99},
        {"unknown_id": -1},
        {"max_tokens": 0},
        {"max_tokens": True},
        {"inputs": {"ids": "ids"}},
        {"vocabulary": "../vocabulary.txt"},
        {"vocabulary": "/etc/passwd"},
        {"vocabulary": "absent.txt"},
        {"words": b"a\nb\na\n"},
        {"words": b"\xff\xfe"},
    ],
    ids=str,
)
def test_a_pipeline_that_this_code_does_not_know_is_refused_whole(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ModelLoadFailed):
        load_pipeline(write_pipeline(tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_pipeline_file_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    write_pipeline(tmp_path)
    (tmp_path / "pipeline.json").write_text(text)

    with pytest.raises(ModelLoadFailed):
        load_pipeline(tmp_path)


def test_chinese_texts_may_be_read_character_by_character() -> None:
    assert characters("这部 电影\uff0c很好\uff01\n") == list("这部电影,很好!")
    assert characters("\uff21b\u2460 \ufb01") == ["a", "b", "1", "f", "i"]
    assert characters(" \t　\x00") == []


@given(st.text())
def test_each_character_is_where_it_was_found(text: str) -> None:
    for span in character_spans(text):
        assert span.end == span.start + 1 <= len(text)
        assert span.word in unicodedata.normalize("NFKC", text[span.start]).lower()


def test_a_pipeline_may_read_characters_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.txt").write_text("<pad>\n<unk>\n好\n差\n片\n")
    (tmp_path / "pipeline.json").write_text(json.dumps(PIPELINE | {"tokenizer": "characters", "labels": ["负面", "正面"]}))

    pipeline = load_pipeline(tmp_path)
    prepared = pipeline.prepare(["好片", "差 片\uff01"], max_rows=4, max_characters=100)

    assert [row.tolist() for row in prepared.rows] == [[2, 4], [3, 4, 1]]
    assert prepared.tokens == 5
    assert list(pipeline.labels) == ["负面", "正面"]
    assert "characters" in pipeline.schema()["properties"]["input_data"]["description"]
