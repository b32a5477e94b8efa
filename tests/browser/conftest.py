"""Chromium against a whole site. Without Chromium these tests are skipped, and say so."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.flows.calls import Caller
from tests.flows.server import Site, start_site

PASSWORD = "correct horse battery"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_CALLS = 12


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """A running site that all browser tests share."""
    with start_site() as running:
        yield running


# By module: while Playwright's loop runs in this thread, Django refuses to touch its database.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, as it is installed."""
    executable = next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        pytest.skip(f"none of {', '.join(_NAMES)} is installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        yield chromium
        chromium.close()


class Watched:
    """A browser window that remembers what it should not have done."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        self.context, self.site = context, site
        self.base = f"http://127.0.0.1:{site.port}"
        self.faults: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.faults.append(f"{self.page.url}: {error}"))
        self.page.on("request", self._note_request)

    def _note_console(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(f"{self.page.url}: {message.text}")

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith((self.base, "data:")):
            self.faults.append(f"asked {request.url}")

    def open(self, path: str) -> Page:
        """Go to a page of the site."""
        self.page.goto(self.base + path)
        return self.page


@pytest.fixture
def window(browser: Browser, site: Site) -> Iterator[Callable[..., Watched]]:
    """Open windows; at the end none may have complained, or asked another host for anything."""
    opened: list[Watched] = []

    def open_window(**options: Any) -> Watched:
        watched = Watched(browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options}), site)
        opened.append(watched)
        return watched

    yield open_window
    faults = [fault for watched in opened for fault in watched.faults]
    for watched in opened:
        watched.context.close()
    assert faults == []


def sign_up(watched: Watched) -> str:
    """Sign up as a new person, up to the first-call page; return the curl it shows."""
    page = watched.open("/")
    page.get_by_role("link", name="Sign up", exact=True).click()
    page.get_by_label("Email").fill(f"ada-{time.monotonic_ns()}@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign up").click()
    page.get_by_role("link", name="Read the mail").click()
    page.get_by_role("link", name="Open the link").click()
    page.get_by_role("button", name="Yes, go on").click()
    return page.locator("#code-curl").inner_text()


def paste(curl: str) -> str:
    """Run a line as if pasted into a terminal; return what it prints."""
    return subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.fixture(scope="session")
def _states() -> dict[str, Any]:
    return {}


@pytest.fixture
def member(browser: Browser, site: Site, _states: dict[str, Any], tmp_path: Path) -> Any:
    """The cookies of somebody who has signed up and made some calls; made once for all tests."""
    if "member" not in _states:
        watched = Watched(browser.new_context(), site)
        curl = sign_up(watched)
        key = re.findall(r"fb_sk_live_\w{38}", curl)[0]
        for count in range(1, _CALLS + 1):
            reply = Caller(site.port, key).post("/v1/models/farebox/sentiment/predict", {"input_data": ["a fine film " * count]})
            assert reply.status == 200
        watched.page.locator("#first-call-answer").wait_for()
        _states["member"] = watched.context.storage_state()
        watched.context.close()
    return _states["member"]
