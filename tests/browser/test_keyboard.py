"""Without a mouse."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.conftest import Watched


def _tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus, which must be visible on every stop."""
    for _ in range(60):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    message = f"Tab never reached {selector}."
    raise AssertionError(message)


def test_the_first_stop_skips_to_the_content(window: Callable[..., Watched], member: object) -> None:
    page = window(storage_state=member).open("/dashboard/")

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    assert page.evaluate("document.activeElement.id") == "main"


def test_a_key_is_made_with_the_keyboard_alone(window: Callable[..., Watched], member: object) -> None:
    page = window(storage_state=member).open("/keys/")

    _tab_to(page, "main a[href='/keys/new/']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/keys/new/")
    _tab_to(page, "#id_name")
    page.keyboard.type("by keyboard")
    _tab_to(page, "#id_monthly_cap")
    page.keyboard.type("5")
    page.keyboard.press("Enter")

    expect(page.locator("#secret")).to_contain_text("fb_sk_live_")
    expect(page.get_by_role("heading", level=1)).to_have_text("by keyboard")
    expect(page.locator("main")).to_contain_text("of $5.00 spent")


def test_the_account_menu_closes_with_escape(window: Callable[..., Watched], member: object) -> None:
    page = window(storage_state=member).open("/dashboard/")
    _tab_to(page, "details.menu > summary")

    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.keyboard.press("Escape")

    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()


def test_arrows_move_between_the_snippets(window: Callable[..., Watched], member: object) -> None:
    page = window(storage_state=member).open("/docs/")
    _tab_to(page, "[role=tab]")

    page.keyboard.press("ArrowRight")

    expect(page.locator("#panel-python")).to_be_visible()
    expect(page.locator("#panel-curl")).to_be_hidden()
