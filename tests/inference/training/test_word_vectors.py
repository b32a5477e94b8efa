"""The encoder, rebuilt from its weights, gives the published similarities."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed")

from inference.training.sources import MINILM
from inference.training.word_vectors import WordEncoder

_WHEEL = Path(__file__).parents[3] / "var" / "datasets" / MINILM.filename


@pytest.fixture(scope="module")
def encoder() -> WordEncoder:
    if not _WHEEL.exists():
        pytest.skip("the encoder is not in var/datasets (manage.py train sentiment fetches it)")
    return WordEncoder(_WHEEL)


def test_similarities_are_those_on_the_encoders_model_card(encoder: WordEncoder) -> None:
    """The example of the widget on huggingface.co/sentence-transformers/all-MiniLM-L6-v2."""
    texts = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]

    rows = encoder.vectors(texts)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    assert rows[1:] @ rows[0] == pytest.approx([0.695, 0.943, 0.257], abs=0.002)


def test_a_word_has_the_same_vector_whatever_it_is_encoded_with(encoder: WordEncoder) -> None:
    alone, together = encoder.vectors(["dull"]), encoder.vectors(["dull", "unprepossessingly", "ok"])

    assert np.abs(alone[0] - together[0]).max() < 1e-5
