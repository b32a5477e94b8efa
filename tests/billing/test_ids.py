"""Tests of ids."""

import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.ids import parse_public_id, public_id, uuid7


def test_uuid7_has_version_7_and_the_time_in_its_first_48_bits() -> None:
    before = time.time_ns() // 1_000_000
    value = uuid7()
    after = time.time_ns() // 1_000_000

    assert (value.version, value.variant) == (7, "specified in RFC 4122")
    assert before <= value.int >> 80 <= after + 1


def test_uuid7_ascends_even_while_the_clock_stands_still_or_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    instants = iter([time.time_ns() + 10**9] * 500 + [time.time_ns() - 10**12] * 500)
    monkeypatch.setattr("billing.ids.time.time_ns", lambda: next(instants))

    made = [uuid7() for _ in range(1000)]

    assert made == sorted(set(made))


@given(st.uuids())
def test_public_id_is_22_characters_and_parses_back(value: UUID) -> None:
    text = public_id("req", value)

    assert len(text) == len("req_") + 22
    assert parse_public_id("req", text) == value


@given(st.lists(st.uuids(), min_size=2))
def test_public_ids_sort_as_their_uuids_do(values: list[UUID]) -> None:
    assert [public_id("req", value) for value in sorted(values)] == sorted(public_id("req", value) for value in values)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "req",
        "req_",
        "req_" + "0" * 21,
        "req_" + "0" * 23,
        "key_" + "0" * 22,
        "req_" + "0" * 21 + "-",
        "req_" + "z" * 22,
        "req-" + "0" * 22,
    ],
)
def test_parse_public_id_finds_nothing_in_what_is_no_id(text: str) -> None:
    assert parse_public_id("req", text) is None
