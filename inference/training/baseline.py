"""The honest bar: TF-IDF with logistic regression, tuned on the same splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from inference.pipelines.text import words
from inference.training.reviews import Review, Splits

# Inverse regularization, in octaves far to both sides of the optimum (4 to 32 on the splits tried).
_C: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_NGRAMS: Final = ((1, 1), (1, 2))


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """The tuned baseline's settings and its accuracy on the test split."""

    ngrams: int
    c: float
    validation_accuracy: float
    accuracy: float
    clear_accuracy: float


def measure_baseline(splits: Splits) -> Baseline:
    """Choose n-grams and C on validation, fit on training, measure once on the test split.

    The network gets the same deal: its epoch is chosen on validation, which it never learns from.
    """
    best, best_accuracy = None, -1.0
    for ngrams in _NGRAMS:
        vectorizer = TfidfVectorizer(tokenizer=words, token_pattern=None, lowercase=False, ngram_range=ngrams, sublinear_tf=True)
        features = vectorizer.fit_transform([review.text for review in splits.train])
        labels = _labels(splits.train)
        for c in _C:
            model = LogisticRegression(C=c, max_iter=1_000).fit(features, labels)
            right = _right(vectorizer, model, splits.validation)
            if right.mean() > best_accuracy:
                best, best_accuracy = (ngrams[1], c, vectorizer, model), float(right.mean())
    assert best is not None  # The grid is not empty.
    longest, c, vectorizer, model = best
    right = _right(vectorizer, model, splits.test)
    clear = np.array([review.is_clear for review in splits.test])
    return Baseline(
        ngrams=longest, c=c, validation_accuracy=best_accuracy,
        accuracy=float(right.mean()), clear_accuracy=float(right[clear].mean()),
    )  # fmt: skip


def _labels(reviews: Sequence[Review]) -> NDArray[np.bool_]:
    return np.array([review.is_positive for review in reviews])


def _right(vectorizer: TfidfVectorizer, model: LogisticRegression, reviews: Sequence[Review]) -> NDArray[np.bool_]:
    """Return which reviews the model labels rightly."""
    found = model.predict(vectorizer.transform([review.text for review in reviews]))
    return np.asarray(found == _labels(reviews))
