"""Tests of how money and prices are written."""

import contextvars
from uuid import UUID

import pytest

from billing.pricing import Shape, Terms, Tier, dearest_unit
from marketplace.amounts import in_currency, money, price_notes, price_rows, price_words, use_currency

TIERS = (
    Tier(up_to=1000, unit_nanos=2_000_000),
    Tier(up_to=5000, unit_nanos=1_500_000, flat_nanos=10**9),
    Tier(up_to=None, unit_nanos=1_000_000),
)


def of(shape: Shape, currency: str = "usd") -> Terms:
    return Terms(UUID(int=1), "house/model@1", "call", dearest_unit(shape), currency, shape)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Shape(unit_nanos=2_000_000), "$0.002 per call"),
        (Shape(scheme="package", unit_nanos=25 * 10**9, package_units=5), "$25.00 per 5 calls"),
        (Shape(scheme="graduated", tiers=TIERS), "$0.002 per call at first, $0.001 per call with more use"),
        (
            Shape(scheme="graduated", tiers=(Tier(up_to=1000, flat_nanos=49 * 10**9), Tier(up_to=None, unit_nanos=2_000_000))),
            "$49.00 a month with 1,000 calls, then $0.002 per call",
        ),
    ],
)
def test_a_price_of_any_shape_is_one_line(shape: Shape, words: str) -> None:
    assert price_words(of(shape)) == words


def test_tiers_are_a_table_and_the_rest_is_sentences() -> None:
    terms = of(Shape(scheme="volume", tiers=TIERS, free_units=10, trial_units=5, minimum_nanos=10**9, cached_unit_nanos=0), "eur")

    assert [tuple(row) for row in price_rows(terms)] == [
        ("1 – 1,000", "€0.002 per call", ""),
        ("1,001 – 5,000", "€0.0015 per call", "€1.00"),
        ("5,001 and more", "€0.001 per call", ""),
    ]
    assert [note.split(" ")[0] for note in price_notes(terms)] == ["All", "The", "To", "A", "Answers"]


def test_amounts_are_written_in_the_accounts_currency() -> None:
    def write() -> str:
        use_currency("cny")
        return money(-1_500_000_000)

    assert contextvars.copy_context().run(write) == "-¥1.50"
    assert money(1_500_000_000) == "$1.50"


def test_a_label_names_the_currency_when_it_is_shown() -> None:
    label, fixed = in_currency("Monthly cap"), in_currency("New price", "eur")

    def write() -> list[str]:
        use_currency("cny")
        return [str(label), str(fixed)]

    assert contextvars.copy_context().run(write) == ["Monthly cap, in CNY", "New price, in EUR"]
    assert str(label) == "Monthly cap, in USD"
