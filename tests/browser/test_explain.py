"""What moved a prediction, as a person sees it in the playground."""

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import Watched


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_words_that_moved_the_label_are_marked_by_more_than_colour(window: Callable[..., Watched], scheme: str) -> None:
    page = window(color_scheme=scheme, viewport={"width": 375, "height": 800}).open("/")
    page.get_by_label("Text", exact=True).fill("Boring at first \U0001f600, yet moving and funny.")

    page.get_by_role("button", name="Explain").click()

    shown = page.locator(".explained")
    marked = shown.locator("mark", has_text="moving")
    expect(marked).to_have_text(re.compile(r"moving\+\d+\.\d"))
    expect(shown.locator("mark", has_text="Boring")).to_have_text(re.compile("Boring\u2212\\d+\\.\\d"))
    assert re.sub("[+\u2212]\\d+\\.\\d", "", shown.inner_text()) == "Boring at first \U0001f600, yet moving and funny."
    assert marked.evaluate("node => getComputedStyle(node).textDecorationStyle") == "solid"
    assert shown.locator("mark", has_text="Boring").evaluate("node => getComputedStyle(node).textDecorationStyle") == "dashed"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert Axe().run(page, context=".playground__result").response["violations"] == []
