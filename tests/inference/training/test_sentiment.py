"""The recipe, at a small size, from the pinned reviews to a folder that can be published."""

import json
from datetime import date
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the train extra is not installed")

from inference.training.card import render_card
from inference.training.errors import SourceUnavailable
from inference.training.sentiment import train_sentiment
from inference.training.sources import VADER, sha256_of

_DATASETS = Path(__file__).parents[3] / "var" / "datasets"


def _quick(out: Path, datasets: Path) -> dict[str, object]:
    return train_sentiment(out, seed=4, datasets=datasets, quick=True, trained_on=date(2026, 1, 2), say=lambda _: None)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """One run for all tests that look at it: it takes some 10 s of CPU."""
    if not (_DATASETS / VADER.filename).exists():
        pytest.skip("the reviews are not in var/datasets (manage.py train sentiment fetches them)")
    out = tmp_path_factory.mktemp("first")
    return out, _quick(out, _DATASETS)


@pytest.mark.slow
def test_the_recipe_writes_all_that_a_version_needs(first_run: tuple[Path, dict[str, object]]) -> None:
    out, card = first_run

    assert {path.name for path in out.iterdir()} == {
        "model.onnx",
        "model.int8.onnx",
        "vocabulary.txt",
        "pipeline.json",
        "card.json",
        "card.md",
        "learning-curve.svg",
    }
    assert json.loads((out / "card.json").read_text(encoding="utf-8")) == card
    assert "2026-01-02" in (out / "card.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(first_run: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    _quick(tmp_path, _DATASETS)

    first, again = ({path.name: sha256_of(path) for path in folder.iterdir()} for folder in (first_run[0], tmp_path))
    assert first == again


def test_the_shipped_card_says_what_the_recipe_would_write() -> None:
    starter = Path(__file__).parents[3] / "inference" / "starter" / "sentiment"
    card = json.loads((starter / "card.json").read_text(encoding="utf-8"))

    assert (starter / "card.md").read_text(encoding="utf-8") == render_card(card)


def test_a_missing_source_leaves_the_output_as_it_was(tmp_path: Path) -> None:
    (tmp_path / VADER.filename).write_bytes(b"not the reviews")

    with pytest.raises(SourceUnavailable):
        _quick(tmp_path / "out", tmp_path)

    assert not (tmp_path / "out").exists()
