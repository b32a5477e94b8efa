"""The operator's dashboard and the API reference in Chromium. `window` fails on any complaint or foreign host."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

THEMES = ["light", "dark"]
SERIOUS = {"serious", "critical"}


def sign_in(watched: Any) -> Page:
    """Sign the operator in through the site's form, led there from the dashboard."""
    password = re.findall(r"operator@farebox\.localhost\s+(\S+)", watched.site.log_text())[0]
    page: Page = watched.open("/admin/")
    page.get_by_label("Email").fill("operator@farebox.localhost")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/admin/")
    return page


@pytest.mark.parametrize("theme", THEMES)
def test_the_dashboard_renews_itself_and_can_be_read(window: Callable[..., Any], theme: str) -> None:
    page = sign_in(window(color_scheme=theme))
    expect(page.get_by_role("heading", name="Books differ by")).to_be_visible()
    shown_at = page.get_by_text("As of").inner_text()

    expect(page.get_by_text("As of")).not_to_have_text(shown_at, timeout=15_000)

    found = Axe().run(page, context="#now").response["violations"]
    assert [violation["id"] for violation in found if violation["impact"] in SERIOUS] == []


def test_the_dashboards_menu_and_forms_work_under_its_policy(window: Callable[..., Any]) -> None:
    page = sign_in(window())

    page.get_by_role("link", name="Organizations").click()
    page.get_by_role("link", name="demo", exact=True).first.click()
    page.get_by_role("link", name="Give credit").click()
    page.get_by_label("Amount").fill("1.25")
    page.get_by_label("Reason").fill("browser test")
    page.get_by_role("button", name="Give credit to demo").click()

    expect(page.get_by_text("Done: Give credit to demo.")).to_be_visible()
    page.get_by_role("link", name="Audit").click()
    expect(page.get_by_text("browser test").first).to_be_visible()


@pytest.mark.parametrize("theme", THEMES)
def test_a_call_can_be_tried_in_the_reference(window: Callable[..., Any], theme: str) -> None:
    watched = window(color_scheme=theme)
    page: Page = watched.open("/docs/api/")

    page.get_by_role("button", name="Authorize").click()
    page.get_by_label("auth-bearer-value").fill(watched.site.key)
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").click()
    page.get_by_role("button", name="Close").last.click()
    operation = page.locator("#operations-Organization-get_organization")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()

    expect(operation.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")
    expect(operation.locator(".live-responses-table")).to_contain_text('"slug": "demo"')


def test_the_reference_lists_the_gateways_calls_first(window: Callable[..., Any]) -> None:
    page: Page = window(viewport={"width": 390, "height": 844}).open("/docs/api/")

    expect(page.locator(".opblock-tag").first).to_contain_text("Predict")
    width = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] <= width[1]
