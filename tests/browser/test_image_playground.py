"""A picture is chosen in the playground of an image model, and its classes are shown."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import Watched, sign_up
from tests.flows.server import ROOT, Site
from tests.inference.pictures import GREEN, picture, write

PUBLISH = """
import json, sys, django
django.setup()
from pathlib import Path
from marketplace.models import Organization
from marketplace.publishing import list_model, publish_version
owner, source = Organization.objects.get(slug="farebox"), Path(sys.argv[1])
model = list_model(owner=owner, name="colors", source=source, public=True, by="test")
publish_version(model=model, source=source, unit="row", unit_nanos=1000, by="test")
"""


@pytest.fixture(scope="module")
def colors(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Publish a model that tells a picture's color."""
    folder = write(tmp_path_factory.mktemp("colors"))
    (folder / "card.json").write_text('{"title": "Colors", "summary": "Tells the color of a picture.", "task": "image-classification"}')
    (folder / "card.md").write_text("# Colors\n")
    environment = {**os.environ, "VAR_DIR": str(site.var_dir), "DJANGO_SETTINGS_MODULE": "marketplace.settings", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", PUBLISH, str(folder)], cwd=ROOT, env=environment, check=True, timeout=120)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_chosen_picture_is_shown_and_classified(colors: None, window: Callable[..., Watched], tmp_path: Path, scheme: str) -> None:
    watched = window(color_scheme=scheme, viewport={"width": 375, "height": 900})
    sign_up(watched)
    page: Any = watched.open("/models/farebox/colors/")
    (tmp_path / "grass.jpg").write_bytes(picture(GREEN, size=(300, 200), kind="JPEG"))

    page.get_by_label("Image", exact=True).set_input_files(tmp_path / "grass.jpg")
    expect(page.get_by_role("img", name="The image that was chosen")).to_be_visible()
    page.get_by_role("button", name="Run", exact=True).click()

    expect(page.locator(".score").first).to_have_text(re.compile(r"green\s*\d+\.\d %"))
    assert page.get_by_role("button", name="Explain").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert Axe().run(page, context="[aria-labelledby=try]").response["violations"] == []
    if shots := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{shots}/image-{scheme}.png")
