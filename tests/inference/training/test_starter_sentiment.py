"""The shipped sentiment model is the one on its card, and does what the card says."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_TELEMETRY_DISABLED", "1")
import onnxruntime

from inference.pipelines.text import token_ids, words
from inference.training.reviews import Review, read_snippets, split_reviews
from inference.training.sources import VADER
from inference.training.vocabulary import read_vocabulary

_ROOT = Path(__file__).parents[3]
_STARTER = _ROOT / "inference" / "starter" / "sentiment"
_CARD: dict[str, Any] = json.loads((_STARTER / "card.json").read_text(encoding="utf-8"))
_VOCABULARY = read_vocabulary(_STARTER / "vocabulary.txt")


def _session(name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(_STARTER / name), options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, rows: list[list[int]]) -> NDArray[np.float32]:
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.zeros((len(rows), int(lengths.max())), np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    (probability,) = session.run(["probability"], {"ids": ids, "lengths": lengths})
    return np.asarray(probability)[:, 0]


def _ids(text: str) -> list[int]:
    return token_ids(text, _VOCABULARY, unknown_id=1, max_tokens=512)


def _test_split() -> list[Review]:
    sdist = _ROOT / "var" / "datasets" / VADER.filename
    if not sdist.exists():
        pytest.skip("the reviews are not in var/datasets (manage.py train sentiment fetches them)")
    return split_reviews(read_snippets(sdist), seed=_CARD["seed"]).test


def _answers(name: str, reviews: list[Review]) -> NDArray[np.float32]:
    session, rows = _session(name), [_ids(review.text) for review in reviews]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    answers = np.zeros(len(rows), np.float32)
    for start in range(0, len(order), 32):
        batch = order[start : start + 32]
        answers[batch] = _run(session, [rows[row] for row in batch])
    return answers


@pytest.mark.parametrize("name", sorted(_CARD["files"]))
def test_the_files_are_those_that_the_card_describes(name: str) -> None:
    content = (_STARTER / name).read_bytes()

    assert hashlib.sha256(content).hexdigest() == _CARD["files"][name]["sha256"]
    assert len(content) == _CARD["files"][name]["size_bytes"]


def test_both_artifacts_together_stay_under_25_mb() -> None:
    assert sum((_STARTER / name).stat().st_size for name in ("model.onnx", "model.int8.onnx")) < 25_000_000


def test_the_vocabulary_fits_the_embedding_and_starts_with_padding_and_unknown() -> None:
    assert list(_VOCABULARY)[:2] == ["<pad>", "<unk>"]
    assert max(_VOCABULARY.values()) + 1 == len(_VOCABULARY)
    last = [[len(_VOCABULARY) - 1]]
    assert 0 <= _run(_session("model.onnx"), last)[0] <= 1
    with pytest.raises(Exception, match="indices element out of data bounds"):
        _run(_session("model.onnx"), [[len(_VOCABULARY)]])


@pytest.mark.parametrize("longest", [1, 2, 17, 90, 512])
@pytest.mark.parametrize("count", [2, 3, 16])
def test_a_row_gets_the_same_answer_alone_and_in_a_padded_batch(count: int, longest: int) -> None:
    rng = np.random.default_rng(longest * 100 + count)
    sizes = [longest, *rng.integers(1, longest + 1, count - 1)]
    rows = [rng.integers(1, len(_VOCABULARY), size).tolist() for size in sizes]
    session = _session("model.onnx")

    together, alone = _run(session, rows), np.concatenate([_run(session, [row]) for row in rows])

    assert np.abs(together - alone).max() <= 1e-5


def test_int8_answers_depend_on_the_batch_by_no_more_than_the_tolerance() -> None:
    """Its activations are rounded by the range of the whole batch, so this is not zero as float32's is."""
    rng = np.random.default_rng(8)
    rows = [rng.integers(1, len(_VOCABULARY), size).tolist() for size in rng.integers(1, 60, 16)]
    session = _session("model.int8.onnx")

    together, alone = _run(session, rows), np.concatenate([_run(session, [row]) for row in rows])

    assert np.abs(together - alone).max() <= _CARD["int8"]["tolerance"]


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx"])
@pytest.mark.parametrize(
    ("text", "positive"),
    [
        ("A warm, funny and beautifully acted film.", True),
        ("Dull, clumsy and far too long.", False),
        ("I loved every minute of it!", True),
        ("The worst comedy of the year.", False),
        ("A masterpiece.", True),
        ("This movie is not good.", False),
    ],
)
def test_plain_opinions_are_read_rightly(name: str, text: str, *, positive: bool) -> None:
    assert (_run(_session(name), [_ids(text)])[0] > 0.5) is np.bool_(positive)


def test_the_accuracy_on_the_card_can_be_derived_again() -> None:
    reviews = _test_split()
    clear = np.array([review.is_clear for review in reviews])
    labels = np.array([review.is_positive for review in reviews])

    for artifact, name in (("float32", "model.onnx"), ("int8", "model.int8.onnx")):
        right = (_answers(name, reviews) > 0.5) == labels
        # Another CPU's int8 kernels may flip a label or two of those nearest to 0.5.
        assert right.mean() == pytest.approx(_CARD["accuracy"][artifact]["all"], abs=0.003)
        assert right[clear].mean() == pytest.approx(_CARD["accuracy"][artifact]["clear"], abs=0.003)


def test_the_model_beats_the_baseline_of_its_own_run() -> None:
    for rows in ("all", "clear"):
        for artifact in ("float32", "int8"):
            assert _CARD["accuracy"][artifact][rows] >= _CARD["accuracy"]["baseline"][rows]


def test_int8_stays_within_the_tolerance_on_the_card() -> None:
    reviews = _test_split()

    gap = np.abs(_answers("model.onnx", reviews) - _answers("model.int8.onnx", reviews))

    assert gap.max() <= _CARD["int8"]["tolerance"]
    assert gap.mean() <= 2 * _CARD["int8"]["mean_difference"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It DOESN'T work!", ["it", "doesn't", "work", "!"]),
        ("A+ film (2002), 90 min.", ["a", "+", "film", "(", "2002", ")", ",", "90", "min", "."]),
        ("the 'fine' ''Frailty'' isn\u2019t the critics' '", ["the", "fine", "frailty", "isn't", "the", "critics"]),
        ("好电影 yes", ["好", "电", "影", "yes"]),
        (" \t\n\x00", []),
    ],
)
def test_words_are_cut_alike_for_training_and_serving(text: str, expected: list[str]) -> None:
    assert words(text) == expected
