"""The Chinese catalogue: complete, compiled from what stands beside it, and used."""

import ast
import gettext
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import translation
from django.utils.translation.template import templatize

from marketplace.problems import PROBLEMS

FOLDER = Path(settings.LOCALE_PATHS[0]) / "zh_Hans" / "LC_MESSAGES"
STRING = r'"((?:[^"\\]|\\.)*)"'
# What `templatize` makes of a marked text: gettext(u'...'), ngettext(u'...', u'...', count).
MARKED = re.compile(r"gettext\((u?'(?:[^'\\]|\\.)*'|u?\"(?:[^\"\\]|\\.)*\")")
CALLS = {"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext", "ngettext_lazy"}


def _written() -> dict[str, str]:
    """Return msgid -> msgstr of the .po file, plural forms by their singular."""
    pattern = re.compile(rf"^msgid {STRING}\n(?:msgid_plural {STRING}\n)?msgstr(?:\[0\])? {STRING}$", re.MULTILINE)
    return {_plain(found[1]): _plain(found[3]) for found in pattern.finditer((FOLDER / "django.po").read_text("utf-8")) if found[1]}


def _plain(text: str) -> str:
    return text.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")


def _compiled() -> dict[str, str]:
    with (FOLDER / "django.mo").open("rb") as file:
        catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    return {(key[0] if isinstance(key, tuple) else key): text for key, text in catalogue.items() if key}


def test_no_text_is_left_untranslated() -> None:
    written = _written()

    assert len(written) > 300
    assert [text for text, translated in written.items() if not translated] == []


def test_the_compiled_catalogue_is_that_of_the_text() -> None:
    assert _compiled() == _written()


def test_placeholders_survive() -> None:
    names = re.compile(r"%\(\w+\)s")

    assert [text for text, translated in _written().items() if set(names.findall(text)) != set(names.findall(translated))] == []


def _of_templates() -> set[str]:
    files = (file for file in (settings.BASE_DIR / "templates").rglob("*.*") if file.suffix in {".html", ".txt"})
    return {ast.literal_eval(text) for file in files for text in MARKED.findall(templatize(file.read_text("utf-8")))}


def _of_code() -> set[str]:
    found = set()
    for file in (settings.BASE_DIR / "marketplace").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS and node.args:
                text = node.args[0]
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found.add(text.value)
    return found


def test_the_catalogue_has_every_marked_text_and_no_other() -> None:
    marked, written = _of_templates() | _of_code(), set(_written())

    missing, stale = sorted(marked - written), sorted(written - marked)

    assert len(marked) > 1000
    assert missing == []
    assert stale == []


def test_every_problem_is_documented_in_chinese() -> None:
    texts = {text for problem in PROBLEMS.values() for text in (problem.title, problem.happened, problem.charged, problem.remedy)}

    assert texts - _written().keys() == set()


@pytest.mark.django_db
def test_the_switch_in_the_footer_changes_the_language(client: Client) -> None:
    with translation.override("en"):  # What the requests activate ends here.
        client.post("/i18n/setlang/", {"language": "zh-hans", "next": "/docs/"})
        page = client.get("/docs/errors/budget_exceeded").content.decode()

    assert '<html lang="zh-hans">' in page
    assert "超出预算" in page
