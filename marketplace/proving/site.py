"""Gateways of a site of the scene's own, on free ports, in processes of their own: as many as are to agree."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.db import connections

from billing.ledger import grant_credit
from billing.money import Nanos
from marketplace.keys import KeySettings, issue_key
from marketplace.models import ApiKey, ModelVersion, Organization
from marketplace.programs import BACKLOG, site_programs
from marketplace.proving.acts import CREDIT_NANOS, database_url
from marketplace.proving.calls import Caller
from marketplace.proving.findings import Untried
from marketplace.starter import HOUSE_SLUG, start_site
from marketplace.supervisor import open_listener
from marketplace.tenants import found_organization

_PATIENCE_S: Final = 120
_STOP_S: Final = 30
_RATE: Final = "100000000"  # No scene is about rates.


@dataclass(frozen=True, slots=True)
class Site:
    """What is served, and where."""

    ports: list[int]
    version: ModelVersion  # The starter model's.


@contextmanager
def serving(*, gateways: int) -> Iterator[Site]:
    """Serve the starter model from so many gateways on one database, until the block ends.

    Raises:
        Untried: a gateway did not come up.
    """
    start_site()
    version = ModelVersion.objects.get(model__owner__slug=HOUSE_SLUG, model__name="sentiment")
    (settings.VAR_DIR / "static").mkdir(exist_ok=True)
    connections.close_all()
    with ExitStack() as stack:
        yield Site([stack.enter_context(_gateway()) for _ in range(gateways)], version)


@contextmanager
def _gateway() -> Iterator[int]:
    """Run one gateway by the site's own command line; yield its port."""
    log = settings.VAR_DIR / "gateway.log"
    with open_listener("127.0.0.1", 0, backlog=BACKLOG) as listener, log.open("ab") as output:
        port: int = listener.getsockname()[1]
        program = site_programs(listener_fd=listener.fileno())[0]
        surroundings = {
            **os.environ,
            **program.environment,
            "DATABASE_URL": database_url(),
            "ARTIFACTS_DIR": str(settings.ARTIFACTS_DIR),
            "LIVE_KEY_RATE_PER_MINUTE": _RATE,
            "ORGANIZATION_RATE_PER_MINUTE": _RATE,
        }
        process = subprocess.Popen(
            program.argv, cwd=settings.BASE_DIR, env=surroundings, pass_fds=[listener.fileno()], stdout=output, stderr=output
        )
        try:
            _wait_until_ready(port, process)
            yield port
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            process.kill()
            process.wait()


def _wait_until_ready(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError, socket.timeout):
            if Caller(port, None).get("/readyz").status == 200:
                return
        time.sleep(0.1)
    told = (settings.VAR_DIR / "gateway.log").read_text(errors="replace").strip().split("\n")[-1]
    message = f"A gateway did not come up: {told}"
    raise Untried(message)


def make_caller(slug: str) -> tuple[Organization, ApiKey, str]:
    """Make an organization with 10 dollars and a key; return them with the key's secret."""
    organization = found_organization(name=slug, slug=slug, owner=None, by="prove")
    grant_credit(organization.account, Nanos(CREDIT_NANOS), kind="operator", reference=f"prove:{slug}", by="prove")
    key, secret = issue_key(organization=organization, name=slug, settings=KeySettings(), by="prove")
    return organization, key, secret
