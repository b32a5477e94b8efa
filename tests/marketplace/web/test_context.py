"""What holds for every page: the policy, and the error pages."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

TEMPLATES = Path(settings.BASE_DIR) / "templates"
STATIC = Path(settings.BASE_DIR) / "marketplace" / "static"


def _own_templates() -> list[Path]:
    return [file for file in TEMPLATES.rglob("*.html") if "admin" not in file.parts]


@pytest.mark.django_db
def test_the_policy_lets_a_page_load_only_from_here(client: Client) -> None:
    policy = client.get("/")["Content-Security-Policy"]

    assert "script-src 'self' 'nonce-" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("file", _own_templates(), ids=lambda file: str(file.relative_to(TEMPLATES)))
def test_no_template_has_inline_styles_or_handlers(file: Path) -> None:
    text = file.read_text("utf-8")

    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:", text)


def test_no_style_sheet_or_script_of_ours_names_another_host() -> None:
    files = [*STATIC.glob("css/*.css"), *STATIC.glob("js/*.js")]

    assert files
    assert [file.name for file in files if re.search(r"https?://|//[a-z]+\.", file.read_text("utf-8"))] == []
    assert [file.name for file in files if len(file.read_text("utf-8").splitlines()) > 400] == []


@pytest.mark.django_db
def test_what_is_not_there_has_a_page_of_its_own(client: Client) -> None:
    reply = client.get("/nothing/")

    assert reply.status_code == 404
    assert "There is nothing here" in reply.content.decode()


@pytest.mark.django_db
def test_a_page_for_nobody_reads_nothing_about_organizations(client: Client, django_assert_num_queries: object) -> None:
    with django_assert_num_queries(0):  # type: ignore[operator]  # A context manager of pytest-django.
        client.get("/docs/errors/")
