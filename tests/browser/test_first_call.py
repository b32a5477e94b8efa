"""From nothing to the first answer, as a person does it."""

import json
import time
from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.conftest import Watched, paste, sign_up


def test_sign_up_to_first_call_takes_under_a_minute_and_one_paste(window: Callable[..., Watched]) -> None:
    started = time.monotonic()
    watched = window()

    answer = json.loads(paste(sign_up(watched)))

    shown = watched.page.locator("#first-call-answer")
    expect(shown).to_contain_text(answer["id"], timeout=5_000)  # The page finds it by itself.
    expect(shown).to_contain_text("positive")
    expect(shown).to_contain_text("$0.0000012")
    assert time.monotonic() - started < 60
    shown.get_by_role("link", name="Go to the dashboard").click()
    expect(watched.page.locator("#recent-requests")).to_contain_text("200")


def test_anyone_tries_the_model_on_the_front_page(window: Callable[..., Watched]) -> None:
    page = window().open("/")

    page.get_by_role("button", name="The plot drags").click()

    expect(page.locator(".score").first).to_contain_text("negative")
    expect(page.locator("[data-result]")).to_contain_text("Would cost $0.00000")


def test_a_member_runs_and_prices_a_call_on_the_models_page(window: Callable[..., Watched], member: object) -> None:
    page = window(storage_state=member).open("/models/farebox/sentiment/")

    page.get_by_role("button", name="What will it cost?").click()
    expect(page.locator("[data-result]")).to_contain_text("Costs at most $0.00000")
    page.get_by_role("button", name="Run").click()

    expect(page.locator("[data-result]")).to_contain_text("Cost $0.00000")
    page.get_by_text("The reply, as it came").click()
    expect(page.locator("[data-result] pre")).to_contain_text('"livemode": true')


def test_the_python_snippet_runs(window: Callable[..., Watched], member: object, site: object) -> None:
    watched = window()
    sign_up(watched)
    watched.page.get_by_role("tab", name="Python").click()
    snippet = watched.page.locator("#code-python").inner_text()

    printed = paste(f"python3 - <<'END'\n{snippet}\nEND")

    assert "positive" in printed
    expect(watched.page.locator("#first-call-answer")).to_be_visible(timeout=5_000)
