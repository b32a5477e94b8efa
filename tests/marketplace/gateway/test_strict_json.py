"""The strict JSON parser in front of every call."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.errors import RequestMalformed
from marketplace.gateway.strict_json import MAX_JSON_DEPTH, parse_json

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

    with pytest.raises(RequestMalformed, match=f"deeper than {MAX_JSON_DEPTH}|depth limit"):
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


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 65 + b'"' + b'\\"' * 500_000,
        b'{"a":"' + b'\\"' * 400_000 + b'"}',
        b"{" + b",".join(b'"%d":1' % number for number in range(90_000)) + b',"z":1,"z":1}',
        b"[" + b",".join([b"[" * 63 + b"]" * 63] * 7_000) + b"]",
        b"[" + b"1.0," * 250_000 + b"1.0]",
        b"[" + b'{"a":1},' * 120_000 + b"1]",
        b"[" + b"{}," * 330_000 + b"1]",
        b"[" + b'"",' * 330_000 + b"1]",
        b'{"a' * 300_000,
        b"\\" * 1_000_000,
    ],
    ids=["unterminated", "escapes", "fields", "deep", "numbers", "objects", "empty", "strings", "opened", "backslashes"],
)
def test_the_work_is_linear_in_the_body(body: bytes) -> None:
    """Counted, not timed: doubling a hostile body may double the work, not square it."""

    def work(part: bytes) -> int:
        began = time.thread_time_ns()
        with contextlib.suppress(RequestMalformed):
            parse_json(part)
        return time.thread_time_ns() - began

    # A quadratic path takes seconds to hours for 1 MB; a linear one well under one.
    assert work(body) < 3_000_000_000


@given(JSON)
def test_a_field_repeated_anywhere_is_refused(value: object) -> None:
    text = json.dumps({"outer": [value, {"twice": 1}]}).replace('"twice": 1', '"twice": 1, "twice": 2')

    with pytest.raises(RequestMalformed):
        parse_json(text.encode())
