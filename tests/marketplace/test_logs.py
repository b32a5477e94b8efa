"""Log lines: one an event, with the request, and without secrets."""

import json
import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from billing.ids import uuid7
from marketplace.logs import JsonLines, RequestIds, TextLines, begin_request, hide_secrets, render_line

# A key's form, without being one.
KEY = "fb_sk_live_0123" + "a" * 34


def record(message: str = "It failed.", *, error: BaseException | None = None, **extra: Any) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"msg": message, "levelname": "WARNING", "name": "farebox.test", "created": 1_800_000_000.25, "msecs": 250.0, **extra}
    )
    if error is not None:
        made.exc_info = (type(error), error, error.__traceback__)
    assert RequestIds().filter(made)
    return made


def text_line(made: logging.LogRecord) -> str:
    return TextLines("{asctime} {levelname} {name}: {message}{tail}", style="{").format(made)


def raised(message: str) -> BaseException:
    try:
        raise ValueError(message)  # noqa: TRY301 (with its traceback)
    except ValueError as error:
        return error


def test_a_line_of_json_says_when_what_and_for_which_request() -> None:
    line = JsonLines().format(record("two\nlines", request_id="req_7", fields={"model": "acme/one", "units": 3}))

    assert "\n" not in line
    told = json.loads(line)
    assert told.pop("process") == record().process
    assert told == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "WARNING",
        "logger": "farebox.test",
        "message": "two\nlines",
        "model": "acme/one",
        "units": 3,
        "request_id": "req_7",
    }


def test_a_traceback_is_part_of_its_line() -> None:
    line = JsonLines().format(record(error=raised("no such luck")))

    assert "\n" not in line
    assert json.loads(line)["error"].endswith("ValueError: no such luck")


def test_a_line_for_people_has_the_same() -> None:
    line = text_line(record(request_id="req_7", fields={"units": 3}))

    assert line == "2027-01-15 08:00:00.250Z WARNING farebox.test: It failed. units=3 request_id=req_7"


def test_what_is_logged_for_a_request_names_it_and_nothing_else_does() -> None:
    import contextvars

    def inside() -> str:
        begin_request(SimpleNamespace(id=uuid7(), public_id="req_of_this_task"))
        return str(json.loads(JsonLines().format(record()))["request_id"])

    assert contextvars.copy_context().run(inside) == "req_of_this_task"
    assert "request_id" not in json.loads(JsonLines().format(record()))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"key {KEY}.", "key fb_sk_live_0123[hidden]."),
        (f"x{KEY}{KEY.replace('sk', 'rk')}", "xfb_sk_live_0123[hidden]fb_rk_live_0123[hidden]"),
        (f'{{"a":"{KEY}"}}', '{"a":"fb_sk_live_0123[hidden]"}'),
        ("sk_test_51HabcDEFghi", "sk_test_[hidden]"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_[hidden]"),
        ("fb_sk_live_0123 is shown on pages", "fb_sk_live_0123 is shown on pages"),
    ],
)
def test_secrets_are_cut_out(text: str, left: str) -> None:
    assert hide_secrets(text) == left


def test_no_kind_of_line_lets_a_key_through() -> None:
    made = record(f"It failed for {KEY}", error=raised(f"bad key {KEY}"), fields={"key": KEY})

    for line in (JsonLines().format(made), text_line(made), render_line(KEY, logger="x", key=KEY)):
        assert "a" * 34 not in line
        assert "fb_sk_live_0123[hidden]" in line


def test_what_cannot_be_json_is_told_in_its_own_words() -> None:
    assert json.loads(render_line("x", logger="y", odd=sys))["odd"].startswith("<module 'sys'")
