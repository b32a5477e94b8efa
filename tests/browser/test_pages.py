"""Every page: readable for all, quiet, still, and no wider than a phone."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Watched

OPEN = [
    "/",
    "/accounts/signup/",
    "/accounts/login/",
    "/accounts/password/reset/",
    "/models/",
    "/models/farebox/sentiment/",
    "/docs/errors/",
]
MEMBERS = [
    "/dashboard/",
    "/dashboard/?period=30d",
    "/first-call/",
    "/keys/",
    "/keys/new/",
    "/requests/",
    "/requests/?status=failed",
    "/usage/?by=key",
    "/invoices/",
    "/billing/",
    "/billing/plans/",
    "/budgets/",
    "/invoices/current/",
    "/invoices/current/calls/",
    "/revenue/",
    "/revenue/statement/",
    "/models/farebox/sentiment/",
    "/docs/",
    "/docs/errors/budget_exceeded",
]
STANDARDS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], "resultTypes": ["violations"]}
SHIFTS = """() => new Promise(resolve => {
  let sum = 0;
  new PerformanceObserver(list => { for (const entry of list.getEntries()) sum += entry.value; }).observe({type: "layout-shift", buffered: true});
  setTimeout(() => resolve(sum), 700);
})"""


def _violations(page: Page) -> list[str]:
    found = Axe().run(page, options=STANDARDS).response["violations"]
    return [f"{page.url}: {fault['id']} {node['target']} {node['failureSummary']}" for fault in found for node in fault["nodes"]]


def _open_details(page: Page) -> None:
    page.evaluate("for (const details of document.querySelectorAll('main details')) details.open = true")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_strangers_pages_keep_wcag(window: Callable[..., Watched], theme: str) -> None:
    watched = window(color_scheme=theme, reduced_motion="reduce")

    assert [fault for path in OPEN for fault in _violations(watched.open(path))] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_members_pages_keep_wcag(window: Callable[..., Watched], member: object, theme: str) -> None:
    watched = window(color_scheme=theme, reduced_motion="reduce", storage_state=member)
    faults: list[str] = []
    for path in MEMBERS:
        page = watched.open(path)
        _open_details(page)
        faults += _violations(page)
    for path, row in (("/keys/", "tbody th a"), ("/requests/", "tbody td a")):
        page = watched.open(path)
        page.locator(row).first.click()
        faults += _violations(page)

    assert faults == []


def test_no_page_is_wider_than_a_phone(window: Callable[..., Watched], member: object) -> None:
    watched = window(viewport={"width": 360, "height": 740}, storage_state=member)
    wide = {}
    for path in [*OPEN, *MEMBERS]:
        page = watched.open(path)
        _open_details(page)
        if (width := page.evaluate("document.documentElement.scrollWidth")) > 360:
            wide[path] = width

    assert wide == {}


@pytest.mark.parametrize("path", ["/dashboard/", "/keys/", "/models/farebox/sentiment/", "/"])
def test_nothing_moves_while_a_page_loads(window: Callable[..., Watched], member: object, path: str) -> None:
    page = window(storage_state=member).open(path)

    assert page.evaluate(SHIFTS) == 0


def test_the_dashboard_refreshes_itself_and_stays_still(window: Callable[..., Watched], member: object) -> None:
    page = window(storage_state=member).open("/dashboard/")

    with page.expect_response("**/dashboard/live/**"):
        page.evaluate("htmx.trigger(document.querySelector('[hx-get]'), 'refresh')")

    expect(page.locator("#recent-requests h2")).to_have_count(1)
    assert page.evaluate(SHIFTS) == 0


def test_the_theme_is_chosen_and_kept(window: Callable[..., Watched]) -> None:
    watched = window(color_scheme="light")
    page = watched.open("/")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.get_by_label("Theme").select_option("dark")
    page = watched.open("/docs/")

    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_language_is_chosen_and_kept(window: Callable[..., Watched]) -> None:
    watched = window()
    page = watched.open("/")

    page.get_by_label("Language").select_option("zh-hans")
    expect(page.get_by_role("heading", level=1)).to_contain_text("按次付费")

    page = watched.open("/accounts/signup/")
    expect(page.get_by_role("heading", level=1)).to_have_text("注册")


@pytest.mark.parametrize("path", ["/keys/", "/keys/new/", "/requests/", "/usage/", "/invoices/", "/billing/plans/", "/models/", "/docs/"])
def test_pages_work_without_javascript(window: Callable[..., Watched], member: object, path: str) -> None:
    page = window(storage_state=member, java_script_enabled=False).open(path)

    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_a_missing_page_is_told_kindly(window: Callable[..., Watched]) -> None:
    watched = window()
    page = watched.open("/nothing/")

    expect(page.get_by_role("heading", level=1)).to_have_text("There is nothing here, or it is not yours")
    watched.faults.clear()  # Chromium reports the 404 itself.


def test_an_invoice_prints_as_a_sheet(window: Callable[..., Watched], member: object) -> None:
    page = window(storage_state=member).open("/invoices/current/")

    page.emulate_media(media="print")

    expect(page.locator(".header")).to_be_hidden()
    expect(page.locator("#invoice-charge")).to_be_visible()


def test_an_invoice_shows_its_amounts_on_a_phone_without_scrolling(window: Callable[..., Watched], member: Any) -> None:
    page = window(storage_state=member, viewport={"width": 390, "height": 844}).open("/invoices/current/")

    assert page.locator(".table-scroll").first.evaluate("it => it.scrollWidth <= it.clientWidth")
    expect(page.locator("#invoice-total")).to_be_visible()


def test_the_first_calls_page_keeps_its_snippets_in_view(window: Callable[..., Watched], member: Any) -> None:
    page = window(storage_state=member, viewport={"width": 390, "height": 844}).open("/first-call/")

    box = page.locator("#code-curl").bounding_box()

    assert box is not None
    assert box["x"] + box["width"] <= 390
