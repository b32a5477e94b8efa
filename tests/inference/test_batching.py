"""Which rows run together."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.batching import BatchLimits, StepCosts, next_batch

# A step's cost in microseconds on the flagship LSTM, as measured (two cores, AVX-512).
FLAGSHIP = StepCosts.from_points({1: 117, 2: 152, 4: 222, 8: 476, 16: 900}, max_rows=32)
# Rows cost nothing beside the step: a GPU, or a model whose time is all overhead.
FLAT = StepCosts((100.0,) * 32)
# A step costs nothing beside its rows: batching saves nothing.
PROPORTIONAL = StepCosts(tuple(10.0 * rows for rows in range(1, 33)))

queues = st.lists(st.integers(1, 512), min_size=1, max_size=200).map(sorted)


def chosen(lengths: list[int], opener: int, *, costs: StepCosts = FLAGSHIP, **limits: int) -> list[int]:
    return lengths[next_batch(lengths, opener, limits=BatchLimits(**limits), costs=costs)]


def test_rows_of_like_length_run_with_the_opener_and_others_wait() -> None:
    # By hand: four rows of 40 cost 222 / 4 = 55.5 a token, against 117 alone; the 400 would cost ten times its share.
    assert chosen([5, 40, 40, 40, 40, 400], 2) == [40, 40, 40, 40]


def test_four_rows_run_together_where_a_fifth_would_make_the_mean_dearer() -> None:
    assert chosen([40] * 8, 0) == [40] * 4


def test_everything_runs_together_where_rows_cost_nothing() -> None:
    assert chosen([10] * 40, 3, costs=FLAT) == [10] * 32


def test_rows_of_other_lengths_run_alone_where_batching_saves_nothing() -> None:
    assert chosen([10, 20, 30], 1, costs=PROPORTIONAL) == [20]


def test_the_opener_leaves_even_when_it_is_longer_than_a_batch_may_be() -> None:
    assert chosen([10, 500], 1, max_tokens=100) == [500]


@given(queues, st.data(), st.integers(1, 32), st.integers(1, 4096), st.sampled_from([FLAGSHIP, FLAT, PROPORTIONAL]))
def test_a_batch_holds_its_opener_and_keeps_its_limits(
    lengths: list[int], data: st.DataObject, max_rows: int, max_tokens: int, costs: StepCosts
) -> None:
    opener = data.draw(st.integers(0, len(lengths) - 1))

    batch = next_batch(lengths, opener, limits=BatchLimits(max_rows=max_rows, max_tokens=max_tokens), costs=costs)

    rows = lengths[batch]
    assert batch.start <= opener < batch.stop
    assert len(rows) <= max_rows
    assert len(rows) == 1 or len(rows) * rows[-1] <= max_tokens


@given(queues, st.data())
def test_a_batch_is_never_dearer_per_token_than_its_opener_alone(lengths: list[int], data: st.DataObject) -> None:
    opener = data.draw(st.integers(0, len(lengths) - 1))

    rows = chosen(lengths, opener)

    assert rows[-1] * FLAGSHIP.of_rows[len(rows) - 1] / sum(rows) <= FLAGSHIP.of_rows[0]


@given(queues, st.data())
def test_no_other_batch_of_neighbours_is_cheaper_within_the_reach_of_the_opener(lengths: list[int], data: st.DataObject) -> None:
    opener = data.draw(st.integers(0, len(lengths) - 1))
    limits = BatchLimits(max_rows=8)

    rows = lengths[next_batch(lengths, opener, limits=limits, costs=FLAGSHIP)]

    every = [
        lengths[first:last]
        for first in range(max(0, opener - 7), opener + 1)
        for last in range(opener + 1, min(len(lengths), first + 8) + 1)
        if lengths[last - 1] <= lengths[opener] * FLAGSHIP.reach
    ]
    cheapest = min(batch[-1] * FLAGSHIP.of_rows[len(batch) - 1] / sum(batch) for batch in every)
    assert rows[-1] * FLAGSHIP.of_rows[len(rows) - 1] / sum(rows) == pytest.approx(cheapest)


def test_costs_between_measured_points_lie_on_straight_lines_and_grow_with_the_rows_beyond() -> None:
    costs = StepCosts.from_points({1: 100, 4: 160}, max_rows=8)

    assert costs.of_rows == (100, 120, 140, 160, 200, 240, 280, 320)
    assert costs.least_added == (20, 20, 20, 40, 40, 40, 40, inf)
    assert costs.reach == 100 / 40


@pytest.mark.parametrize("points", [{}, {2: 5.0}, {1: 0.0}, {1: -1.0}, {1: float("nan")}, {1: float("inf")}, {0: 1.0, 1: 1.0}])
def test_what_is_no_cost_is_refused(points: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="cost"):
        StepCosts.from_points(points, max_rows=4)


@pytest.mark.parametrize("limits", [{"max_rows": 0}, {"max_tokens": 0}])
def test_limits_under_which_nothing_could_run_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no batch fits"):
        BatchLimits(**limits)
