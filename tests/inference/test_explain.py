"""Leave-one-out: which rows it takes, and what their scores say."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.explain import attributions, without_each_feature, without_each_id
from inference.pipelines.text import word_spans, words


def test_each_id_is_left_out_in_turn() -> None:
    rows = without_each_id(np.array([7, 8, 9]), filler=1)

    assert [row.tolist() for row in rows] == [[7, 8, 9], [8, 9], [7, 9], [7, 8]]


def test_an_only_id_is_replaced_since_no_row_may_be_empty() -> None:
    assert [row.tolist() for row in without_each_id(np.array([7]), filler=1)] == [[7], [1]]


def test_each_feature_takes_its_baseline_in_turn() -> None:
    rows = without_each_feature(np.array([5.0, 6.0, 7.0], np.float32), np.array([0.0, -1.0, 2.0], np.float32))

    assert rows.tolist() == [[5, 6, 7], [0, 6, 7], [5, -1, 7], [5, 6, 2]]
    assert rows.dtype == np.float32


def test_of_a_linear_score_the_attributions_are_its_terms() -> None:
    weights, features, baseline = np.array([2.0, -3.0, 0.5]), np.array([1.0, 4.0, 10.0]), np.array([0.0, 1.0, 10.0])

    scores = without_each_feature(features, baseline) @ weights

    assert attributions(scores.tolist()) == pytest.approx((weights * (features - baseline)).tolist())


TEXTS = st.text(alphabet=st.sampled_from("ab'\u2019 .,!\u0130\u03a3\u03c3\u4e2d\u6587\u00e9\u0301\n-1"), max_size=40)


@given(TEXTS)
def test_spans_are_the_words_in_order_within_the_text(text: str) -> None:
    spans = word_spans(text)

    assert [span.word for span in spans] == words(text)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(before.start <= after.start for before, after in itertools.pairwise(spans))


def test_a_span_is_where_the_word_stands() -> None:
    text = "It\u2019s a \u201cgood\u201d film, 'fine' \u4e2d\u6587"

    assert [text[span.start : span.end] for span in word_spans(text)] == [
        "It\u2019s", "a", "\u201c", "good", "\u201d", "film", ",", "fine", "\u4e2d", "\u6587",
    ]  # fmt: skip
