"""What is made of a model's output: labels with scores, or numbers."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import InvalidInput, ModelFailed, ModelLoadFailed
from inference.pipelines.answers import make_answers

TOPICS = ["business", "sport", "tech"]


def render(kind: str, output: Any, parameters: dict[str, Any] | None = None, *, labels: list[str] | None = None) -> list[Any]:
    answers = make_answers(kind, TOPICS if labels is None else labels)
    answers.validate(parameters or {})
    array = np.array(output, np.float32)
    return answers.render(array, rows=len(array), parameters=parameters or {})


def test_softmax_ranks_labels_by_their_probability() -> None:
    # By hand: e^1, e^3, e^2 over their sum of 30.192875.
    (ranked,) = render("softmax", [[1, 3, 2]])

    assert [answer["label"] for answer in ranked] == ["sport", "tech", "business"]
    assert [answer["score"] for answer in ranked] == [0.665241, 0.244728, 0.090031]


def test_softmax_of_huge_logits_does_not_overflow() -> None:
    (ranked,) = render("softmax", [[3e38, -3e38, 0]])

    assert ranked[0] == {"label": "business", "score": 1.0}


def test_sigmoid_scores_each_label_by_itself() -> None:
    (ranked,) = render("sigmoid", [[0, math.log(3), -1e30]])

    assert ranked == [{"label": "sport", "score": 0.75}, {"label": "business", "score": 0.5}, {"label": "tech", "score": 0.0}]


def test_probabilities_are_taken_as_they_are() -> None:
    assert render("probabilities", [[0.25, 0.25, 0.5]])[0][0] == {"label": "tech", "score": 0.5}


def test_of_equal_scores_the_label_listed_first_comes_first() -> None:
    assert [answer["label"] for answer in render("softmax", [[1, 1, 1]])[0]] == TOPICS


def test_top_k_and_threshold_shorten_the_list() -> None:
    probabilities = [[0.2, 0.7, 0.1], [0.9, 0.05, 0.05]]

    assert [len(row) for row in render("probabilities", probabilities, {"top_k": 2})] == [2, 2]
    assert [len(row) for row in render("probabilities", probabilities, {"threshold": 0.15})] == [2, 1]
    assert render("binary", [[0.3]], {"threshold": 0.6}, labels=["no", "yes"]) == [[{"label": "no", "score": 0.7}]]


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"top_k": 0}, "parameters.top_k"),
        ({"top_k": 4}, "parameters.top_k"),
        ({"top_k": True}, "parameters.top_k"),
        ({"threshold": 1.1}, "parameters.threshold"),
        ({"threshold": "0.5"}, "parameters.threshold"),
        ({"threshold": True}, "parameters.threshold"),
        ({"limit": 1}, "parameters.limit"),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(parameters: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        make_answers("softmax", TOPICS).validate(parameters)

    assert refusal.value.param == param


def test_an_embedding_has_length_one_and_a_row_of_zeros_stays() -> None:
    assert render("embedding", [[3, 4], [0, 0]], labels=[]) == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]


def test_values_keep_their_shape() -> None:
    assert render("values", [[[1, 2], [3, 4]]], labels=[]) == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(
    ("kind", "output", "row"),
    [
        ("softmax", [[1, 2, 3], [1, math.nan, 3]], 1),
        ("sigmoid", [[math.nan, 0, 0]], 0),
        ("probabilities", [[0.2, 0.3, 0.5], [0.2, 0.3, 0.6]], 1),
        ("probabilities", [[1.5, -0.5, 0]], 0),
        ("probabilities", [[math.nan, 0.5, 0.5]], 0),
    ],
)
def test_scores_that_are_none_fail_the_row(kind: str, output: Any, row: int) -> None:
    with pytest.raises(ModelFailed) as failure:
        render(kind, output)

    assert failure.value.row == row


def test_numbers_that_are_none_fail_the_row() -> None:
    with pytest.raises(ModelFailed) as failure:
        render("values", [[1], [math.inf]], labels=[])

    assert failure.value.row == 1


@pytest.mark.parametrize("output", [[[1, 2]], [[1, 2, 3, 4]], [1, 2, 3]])
def test_an_output_of_another_size_fails(output: Any) -> None:
    answers = make_answers("softmax", TOPICS)
    with pytest.raises(ModelFailed):
        answers.render(np.array(output, np.float32), rows=1, parameters={})


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("binary", ["one"]),
        ("binary", ["one", "two", "three"]),
        ("softmax", ["one"]),
        ("softmax", ["one", "one"]),
        ("sigmoid", []),
        ("embedding", ["one"]),
        ("values", ["one"]),
        ("argmin", ["one", "two"]),
    ],
)
def test_a_pipeline_that_cannot_answer_is_not_loaded(kind: str, labels: list[str]) -> None:
    with pytest.raises(ModelLoadFailed):
        make_answers(kind, labels)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3))
def test_any_finite_logits_give_scores_that_sum_to_one(logits: list[float]) -> None:
    (ranked,) = render("softmax", [logits])

    assert sum(answer["score"] for answer in ranked) == pytest.approx(1, abs=1e-5)
    assert [answer["score"] for answer in ranked] == sorted((answer["score"] for answer in ranked), reverse=True)
