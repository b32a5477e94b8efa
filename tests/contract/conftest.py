"""A running site with models of tensors beside the starter, for the stock client."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import tritonclient.http

from tests.contract.stock import Aio
from tests.flows.server import ROOT, Site, start_site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the first test that needs the site wait for it: on a busy machine a start takes more than the usual two minutes."""
    for item in items:
        if "tensor_site" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(300))


@dataclass(frozen=True)
class TensorSite:
    """A running site, its demo organization's key, and a key of the one that owns `other/private`."""

    site: Site
    key: str
    their_key: str

    @property
    def url(self) -> str:
        """What the client is given."""
        return f"127.0.0.1:{self.site.port}"

    @property
    def headers(self) -> dict[str, str]:
        """The demo organization's authorization. A copy: the client writes into what it gets."""
        return {"Authorization": f"Bearer {self.key}"}


@pytest.fixture(scope="session")
def tensor_site() -> Iterator[TensorSite]:
    """A site with `tests/contract/catalogue.py` published."""
    with start_site() as site:
        environment = {
            **os.environ,
            "VAR_DIR": str(site.var_dir),
            "DJANGO_SETTINGS_MODULE": "marketplace.settings",
            "PYTHONPATH": str(ROOT),
        }
        published = subprocess.run(
            [sys.executable, "-m", "tests.contract.catalogue"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert published.returncode == 0, published.stderr
        yield TensorSite(site, site.key, published.stdout.split()[-1])


@pytest.fixture(params=["sync", "aio"])
def client(request: pytest.FixtureRequest, tensor_site: TensorSite) -> Iterator[Any]:
    """Each of the two clients."""
    if request.param == "aio":
        aio = Aio(tensor_site.url)
        yield aio
        aio.end()
    else:
        with tritonclient.http.InferenceServerClient(tensor_site.url) as sync:
            yield sync


@pytest.fixture
def key(tensor_site: TensorSite) -> dict[str, str]:
    """The demo organization's authorization."""
    return tensor_site.headers
