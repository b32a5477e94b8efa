"""One running site for the tests that leave it as they found it."""

from collections.abc import Iterator

import pytest

from tests.flows.server import Site, start_site


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """A site that all flows share, set up from nothing. A test that breaks one starts its own with `start_site`."""
    with start_site(fresh=True) as running:
        yield running
