"""Tests of money."""

from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import AmountMalformed
from billing.money import MAX_AMOUNT, Nanos, parse_amount, render_cents, render_percent, round_to_cents, to_decimal_string

amounts = st.integers(min_value=-MAX_AMOUNT, max_value=MAX_AMOUNT)


@pytest.mark.parametrize(
    ("nanos", "places", "text"),
    [
        (2_200, 9, "0.000002200"),
        (0, 9, "0.000000000"),
        (-1, 9, "-0.000000001"),
        (1_500_000_000, 2, "1.50"),
        (10_000_001, 2, "0.010000001"),
        (3_000_000_000, 0, "3"),
    ],
)
def test_to_decimal_string_shows_every_nano(nanos: int, places: int, text: str) -> None:
    assert to_decimal_string(nanos, places=places) == text


@given(st.integers(min_value=0, max_value=MAX_AMOUNT), st.integers(min_value=0, max_value=9))
def test_an_amount_parses_back_from_its_decimal_string(nanos: int, places: int) -> None:
    assert parse_amount(to_decimal_string(nanos, places=places)) == nanos


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.", ".5", "1e3", "NaN", "1,5", "1.0000000001", "99999999999", "١", "1 2", "0" * 41])  # noqa: RUF001 (an Arabic digit)
def test_parse_amount_refuses_what_is_no_plain_decimal(text: str) -> None:
    with pytest.raises(AmountMalformed):
        parse_amount(text)


@given(amounts)
def test_round_to_cents_loses_nothing_and_rounds_as_decimal_does(nanos: int) -> None:
    cents, left = round_to_cents(Nanos(nanos))

    assert cents * 10_000_000 + left == nanos
    assert cents == int((Decimal(nanos) / 10_000_000).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
    assert abs(left) <= 5_000_000


def test_cents_and_basis_points_are_written_as_people_read_them() -> None:
    assert [render_cents(cents) for cents in (0, 5, 1250, -1250)] == ["0.00", "0.05", "12.50", "-12.50"]
    assert [render_percent(points) for points in (0, 50, 825, 1900, 10_000)] == ["0", "0.5", "8.25", "19", "100"]
