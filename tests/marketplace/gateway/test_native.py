"""The strict JSON parser in front of every call."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.errors import RequestMalformed
from marketplace.gateway.native import MAX_JSON_DEPTH, parse_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=40,
)


@given(JSON)
def test_sound_json_comes_out_as_it_went_in(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize("depth", [65, 100, 129, 20_000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_json_nested_too_deep_is_refused(depth: int, pair: str) -> None:
    opening, closing = ("[", "]") if pair == "[]" else ('{"a":', "}")
    body = (opening * depth + "1" + closing * depth).encode()

    with pytest.raises(RequestMalformed, match=f"deeper than {MAX_JSON_DEPTH}"):
        parse_json(body)


def test_json_at_the_greatest_depth_is_read() -> None:
    body = b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH

    assert json.dumps(parse_json(body)).encode() == body


def test_brackets_that_are_never_closed_are_refused_before_they_exhaust_the_parser() -> None:
    with pytest.raises(RequestMalformed):
        parse_json(b"[" * 200_000)


def test_many_brackets_side_by_side_or_inside_strings_are_not_depth() -> None:
    body = json.dumps({"a": [[1, 2]] * 500, "b": "[[[{{{" * 500, "c": 'quote " and [ \\'}).encode()

    assert parse_json(body) == json.loads(body)


@pytest.mark.parametrize("body", [b"NaN", b"[Infinity]", b'{"a": -Infinity}', b"1e999", b'{"a": [-1e999]}'])
def test_numbers_that_are_not_finite_are_refused(body: bytes) -> None:
    with pytest.raises(RequestMalformed):
        parse_json(body)


def test_a_field_given_twice_is_refused_by_name() -> None:
    with pytest.raises(RequestMalformed) as refused:
        parse_json(b'{"input_data": "a", "input_data": "b"}')

    assert refused.value.param == "input_data"


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": 1,}', b"\xff\xfe", b'"\xed\xa0\x80"', b"9" * 5000, b"{'a': 1}"])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(RequestMalformed):
        parse_json(body)
