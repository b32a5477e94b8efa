"""A pipeline's answers as the tensors of the Open Inference Protocol."""

import numpy as np
import pytest

from inference.errors import ModelFailed
from inference.pipelines.answers import make_answers
from inference.pipelines.pipeline import TextPipeline
from inference.tensors import Collation
from marketplace.gateway.oip.views import tensors_of

COLLATION = Collation("ids", "lengths", "output", pad_id=0)


def pipeline(kind: str, labels: list[str]) -> TextPipeline:
    return TextPipeline(vocabulary={}, tokenizer="words", unknown_id=0, max_tokens=4, answers=make_answers(kind, labels), texts=COLLATION)


def test_labels_become_the_best_one_and_the_scores_in_the_order_of_the_output() -> None:
    prediction = [
        [{"label": "tech", "score": 0.75}, {"label": "art", "score": 0.25}],
        [{"label": "art", "score": 1.0}, {"label": "tech", "score": 0.0}],
    ]

    tensors = tensors_of(prediction, pipeline("softmax", ["art", "tech"]))

    assert tensors["label"].tolist() == [b"tech", b"art"]
    assert tensors["score"].tolist() == [[0.25, 0.75], [1.0, 0.0]]


def test_numbers_become_one_tensor() -> None:
    tensors = tensors_of([[0.6, 0.8], [0, 1]], pipeline("embedding", []))

    assert list(tensors) == ["values"]
    assert tensors["values"].dtype == np.float32
    assert tensors["values"].tolist() == pytest.approx(np.array([[0.6, 0.8], [0, 1]]))


def test_a_row_without_all_labels_fails() -> None:
    with pytest.raises(ModelFailed):
        tensors_of([[{"label": "tech", "score": 1.0}]], pipeline("softmax", ["art", "tech"]))
