"""The recipe, at a small size, from the pinned reviews to a folder that can be published."""

import hashlib
import json
from datetime import date
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the train extra is not installed")

from inference.training.errors import SourceUnavailable  # noqa: E402 - after the skip
from inference.training.sentiment import train_sentiment  # noqa: E402 - after the skip
from inference.training.sources import VADER  # noqa: E402 - after the skip

_DATASETS = Path(__file__).parents[3] / "var" / "datasets"


@pytest.fixture
def datasets() -> Path:
    if not (_DATASETS / VADER.filename).exists():
        pytest.skip("the reviews are not in var/datasets (manage.py train sentiment fetches them)")
    return _DATASETS


def _quick(out: Path, datasets: Path) -> dict[str, object]:
    return train_sentiment(
        out, seed=4, datasets=datasets, quick=True, trained_on=date(2026, 1, 2), say=lambda line: None
    )


def test_the_recipe_writes_all_that_a_version_needs(tmp_path: Path, datasets: Path) -> None:
    card = _quick(tmp_path, datasets)

    assert {path.name for path in tmp_path.iterdir()} == {
        "model.onnx", "model.int8.onnx", "vocabulary.txt", "pipeline.json",
        "card.json", "card.md", "learning-curve.svg",
    }  # fmt: skip
    assert json.loads((tmp_path / "card.json").read_text(encoding="utf-8")) == card
    assert "2026-01-02" in (tmp_path / "card.md").read_text(encoding="utf-8")


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, datasets: Path) -> None:
    for name in ("first", "again"):
        _quick(tmp_path / name, datasets)

    digests = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / name).iterdir()}
        for name in ("first", "again")
    ]
    assert digests[0] == digests[1]


def test_a_missing_source_leaves_the_output_as_it_was(tmp_path: Path) -> None:
    (tmp_path / VADER.filename).write_bytes(b"not the reviews")

    with pytest.raises(SourceUnavailable):
        _quick(tmp_path / "out", tmp_path)

    assert not (tmp_path / "out").exists()
