"""STRIPE=fake, as a newcomer meets it: buy credit on the fake's page, through real processes, and see it again after a restart."""

import http.client
import time
import urllib.parse
from pathlib import Path

import pytest

from billing.money import parse_amount
from tests.flows.calls import Caller
from tests.flows.server import Site, free_port, start_site


def press(address: str, choice: str) -> tuple[int, str]:
    """Press a button of the fake's page; return the status and where it leads."""
    parts = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request("POST", parts.path, f"choice={choice}", {"Content-Type": "application/x-www-form-urlencoded"})
    reply = connection.getresponse()
    reply.read()
    connection.close()
    return reply.status, reply.getheader("Location") or ""


def granted(site: Site) -> int:
    """Return all credit of the demo organization."""
    return parse_amount(Caller(site.port, site.key).get("/v1/balance").json()["granted"])


def wait_for(site: Site, nanos: int) -> None:
    """Wait until the credit is there."""
    deadline = time.monotonic() + 60
    while granted(site) != nanos:
        assert time.monotonic() < deadline, site.log_text()
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_newcomer_buys_credit_from_the_fake_and_it_is_there_after_a_restart(tmp_path: Path) -> None:
    port = str(free_port())
    with start_site(var_dir=tmp_path, STRIPE="fake", STRIPE_FAKE_PORT=port) as site:
        assert "FAKE Stripe" in site.log_text()
        caller = Caller(site.port, site.key)
        before = granted(site)
        top_up = caller.post("/v1/top-ups", {"amount": "25.00"}).json()

        assert press(top_up["checkout_url"], "0002")[0] == 402
        assert granted(site) == before
        status, back = press(top_up["checkout_url"], "4242")

        assert (status, urllib.parse.urlsplit(back).path) == (303, f"/billing/top-ups/{top_up['id']}/")
        wait_for(site, before + 25 * 10**9)
        assert caller.predict().status == 200
        waiting = caller.post("/v1/top-ups", {"amount": "10.00"}).json()
        key = site.key
    assert key not in (tmp_path / "site.log").read_text().split("Ctrl-C")[0].replace(key, "", 2)

    with start_site(var_dir=tmp_path, key=key, STRIPE="fake", STRIPE_FAKE_PORT=port) as site:
        assert granted(site) == before + 25 * 10**9
        press(waiting["checkout_url"], "4242")
        wait_for(site, before + 35 * 10**9)
        assert "sk_test_fake" not in site.log_text()
