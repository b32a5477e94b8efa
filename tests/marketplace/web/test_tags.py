from datetime import UTC, datetime

import pytest

from marketplace import amounts
from marketplace.web import tags


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (0, "$0.00"),
        (1_200, "$0.0000012"),
        (5_000_000_000, "$5.00"),
        (4_999_998_800, "$4.9999988"),
        (-10_000_000, "-$0.01"),
        (1, "$0.000000001"),
    ],
)
def test_money_has_every_digit_and_at_least_cents(nanos: int, text: str) -> None:
    assert tags.money(nanos) == text


def test_a_short_balance_is_rounded_down() -> None:
    assert tags.money_short(4_999_998_800) == "$4.9999"


def test_a_headline_has_four_decimals_or_all_of_a_small_amount() -> None:
    assert tags.money_brief(1_855_936_200) == "$1.8559"
    assert tags.money_brief(57_600) == "$0.0000576"


@pytest.mark.parametrize(("microseconds", "text"), [(412, "412 µs"), (1_830, "1.8 ms"), (182_000, "182 ms"), (2_345_000, "2.35 s")])
def test_durations_have_the_unit_that_fits(microseconds: int, text: str) -> None:
    assert tags.duration(microseconds) == text


def test_a_token_price_is_said_by_the_million() -> None:
    assert amounts.unit_price(200, "token") == "$0.20 per million tokens"
    assert amounts.unit_price(2_000_000, "call") == "$0.002 per call"
    assert amounts.unit_price(5, "byte", "eur") == "€0.005 per MB"


def test_times_are_written_in_utc() -> None:
    assert ">2026-11-22 19:05:00</time>" in tags.utc(datetime(2026, 11, 22, 19, 5, tzinfo=UTC))


def test_backticks_become_code_and_the_rest_is_escaped() -> None:
    assert tags.backticks("a <b> `<key>` c") == "a &lt;b&gt; <code>&lt;key&gt;</code> c"
