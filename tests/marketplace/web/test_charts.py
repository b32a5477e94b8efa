from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.web.charts import Point, bar_chart, round_up


def _points(*values: int) -> list[Point]:
    return [Point(tick=f"{index}h", title=f"hour {index}", value=value) for index, value in enumerate(values)]


def test_bars_are_in_proportion_to_the_round_number_above_the_largest() -> None:
    chart = bar_chart(_points(0, 5, 10), write=str)

    assert [bar.height for bar in chart.bars] == ["0", "50", "100"]
    assert chart.y_labels == ["10", "5", "0"]
    assert chart.total == "15"


def test_a_small_value_beside_a_large_one_is_still_seen() -> None:
    chart = bar_chart(_points(1, 1_000_000), write=str)

    assert float(chart.bars[0].height) > 1


def test_no_values_make_an_empty_chart_with_a_scale() -> None:
    chart = bar_chart(_points(0, 0), write=str)

    assert chart.is_empty
    assert chart.y_labels == ["2", "1", "0"]


def test_a_day_has_five_ticks() -> None:
    assert bar_chart(_points(*range(24)), write=str).x_labels == ["0h", "6h", "12h", "17h", "23h"]


@given(st.integers(min_value=0, max_value=2**62))
def test_the_top_is_even_and_not_far_above_the_value(value: int) -> None:
    top = round_up(value)

    assert top >= value
    assert top % 2 == 0
    assert top <= max(2, 2 * value)


@given(st.lists(st.integers(min_value=0, max_value=10**15), min_size=1, max_size=40))
def test_bars_stay_inside_and_in_order(values: list[int]) -> None:
    chart = bar_chart(_points(*values), write=str)

    assert all(0 <= float(bar.y) <= 100 and float(bar.y) + float(bar.height) == pytest.approx(100, abs=0.02) for bar in chart.bars)
    assert all(float(left.x) < float(right.x) for left, right in pairwise(chart.bars))
