"""An SQLite that can lose money is named where it matters: before deploying, and once at the start."""

import sqlite3
from typing import Any

import pytest
from django.core.checks import run_checks

from marketplace.greeting import describe_ready

LINE = "SQLite 3.40.1 has the WAL-reset bug: fine for trying, see docs/install.md before you take real money."


@pytest.fixture
def on_sqlite(settings: Any, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A site on SQLite 3.40.1, whatever the tests run on."""
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    set_version(monkeypatch, "3.40.1")
    return monkeypatch


def set_version(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version", version)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", tuple(map(int, version.split("."))))


def warnings(*, deploy: bool) -> list[str]:
    return [message.msg for message in run_checks(include_deployment_checks=deploy) if message.id == "farebox.W001"]


@pytest.mark.usefixtures("on_sqlite")
def test_only_the_deployment_check_warns_of_the_bug() -> None:
    assert warnings(deploy=True) == ["SQLite 3.40.1 has the WAL-reset bug."]
    assert warnings(deploy=False) == []


@pytest.mark.usefixtures("on_sqlite")
def test_the_start_names_the_bug_once_after_it_is_ready() -> None:
    lines = describe_ready(key=None)

    assert lines.count(LINE) == 1
    assert "is ready at" in lines[lines.index(LINE) - 1]


def test_an_sqlite_without_the_bug_is_not_mentioned(on_sqlite: pytest.MonkeyPatch) -> None:
    set_version(on_sqlite, "3.51.3")

    assert warnings(deploy=True) == []
    assert not any("WAL-reset" in line for line in describe_ready(key=None))


def test_a_site_on_postgresql_is_not_warned_of_sqlite(on_sqlite: pytest.MonkeyPatch, settings: Any) -> None:
    on_sqlite.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.postgresql")

    assert not any("WAL-reset" in line for line in describe_ready(key=None))
