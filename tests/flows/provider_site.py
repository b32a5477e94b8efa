"""People at a site with STRIPE=fake: they sign up by the forms, press buttons, and publish; and the operator's shell."""

import http.client
import http.cookiejar
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import closing
from typing import Any

from tests.flows.calls import Caller
from tests.flows.server import ROOT, Site

PASSWORD = "correct horse battery"
# What the flows set: nothing is on hold, and Stripe's answers are waited for no longer than a busy machine needs.
QUICK = {
    "STRIPE": "fake",
    "STRIPE_TIMEOUT_S": "3",
    "PAYOUT_INTERVAL": "off",
    "PAYOUT_HOLD_DAYS": "0",
    "PAYOUT_MIN_CENTS": "100",
    "PAYOUT_RESERVE_PERCENT": "0",
    "FREE_CREDIT_CENTS": "0",
}
_PUBLISH = """
import json, tempfile
from pathlib import Path
from marketplace.models import Organization
from marketplace.provider_shares import start_share
from marketplace.publishing import list_model, publish_version
from tests.contract.catalogue import linear
owner = Organization.objects.get(members__email={email!r})
folder = Path(tempfile.mkdtemp())
(folder / "model.onnx").write_bytes(linear().SerializeToString())
(folder / "card.json").write_text(json.dumps({{"title": "Linear", "summary": "Linear.", "task": "tensors"}}))
(folder / "card.md").write_text("# Linear")
model = list_model(owner=owner, name="linear", source=folder, public=True, by="test")
publish_version(model=model, source=folder, unit="call", unit_nanos=2 * 10**9, by="test")
start_share(model, by="test")  # What is published from the operator's folder earns nobody anything by itself.
print(model.path)
"""
_KEY = """
from marketplace.keys import KeySettings, issue_key
from marketplace.models import Organization
print(issue_key(organization=Organization.objects.get(members__email={email!r}), name="test", settings=KeySettings(), by="test")[1])
"""


class Person:
    """A browser without scripts: it keeps cookies and sends forms."""

    def __init__(self, site: Site, email: str) -> None:
        self.site, self.email = site, email
        self.base = f"http://127.0.0.1:{site.port}"
        self._jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar))

    def get(self, path: str) -> str:
        """Return a page, wherever it leads."""
        with self._opener.open(path if "://" in path else self.base + path, timeout=60) as reply:
            return str(reply.read().decode())

    def send(self, page: str, path: str = "", **fields: str) -> str:
        """Send a page's form to an address; return the page that it leads to."""
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.get(page))
        assert token, page
        form = urllib.parse.urlencode({"csrfmiddlewaretoken": token[1], **fields}).encode()
        target = path or page
        request = urllib.request.Request(target if "://" in target else self.base + target, form, {"Referer": self.base + "/"})  # noqa: S310 (this machine)
        with self._opener.open(request, timeout=60) as reply:
            return str(reply.geturl())

    def sign_up(self) -> None:
        """Sign up, read the mail, and follow its link."""
        self.send("/accounts/signup/", email=self.email, password1=PASSWORD)
        link = ""

        def has_come() -> bool:
            nonlocal link
            for mail in (self.site.var_dir / "mail").glob("*"):
                text = mail.read_text().replace("=\n", "")
                found = re.search(r"http://\S+/accounts/confirm-email/\S+", text)
                if self.email in text and found:
                    link = found[0]
            return bool(link)

        wait_until(has_come)
        self.send(link)

    def key(self) -> str:
        """Return a live key of the person's organization."""
        return shell(self.site, _KEY.format(email=self.email))

    def publish(self) -> str:
        """Publish a model at 2 dollars a call; return its path."""
        return shell(self.site, _PUBLISH.format(email=self.email))


def shell(site: Site, program: str) -> str:
    """Run a program as the operator at the site's machine would; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name not in {"ARTIFACTS_DIR", "DATABASE_URL"}}
    environment |= {
        **QUICK,
        "VAR_DIR": str(site.var_dir),
        "PORT": str(site.port),
        "STRIPE_FAKE_PORT": str(fake_port(site)),
        "LOG_LEVEL": "ERROR",
    }
    command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", program]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def fake_port(site: Site) -> int:
    """Return where the site's fake Stripe listens, as its log says."""
    found = re.search(r"FAKE Stripe at http://127\.0\.0\.1:(\d+)", site.log_text())
    assert found, site.log_text()
    return int(found[1])


def press(address: str, choice: str) -> str:
    """Press a button of the fake's page; return where it leads."""
    parts = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request("POST", parts.path, f"choice={choice}", {"Content-Type": "application/x-www-form-urlencoded"})
    reply = connection.getresponse()
    reply.read()
    connection.close()
    assert reply.status == 303, reply.status
    return reply.getheader("Location") or ""


def set_faults(site: Site, **faults: Any) -> None:
    """Have things go wrong at the fake."""
    connection = http.client.HTTPConnection("127.0.0.1", fake_port(site), timeout=20)
    connection.request("POST", "/_fake/faults", json.dumps(faults))
    assert connection.getresponse().status == 200
    connection.close()


def at_stripe(site: Site, kind: str) -> list[dict[str, Any]]:
    """Return the fake's objects of a kind, the oldest first."""
    with closing(sqlite3.connect(site.var_dir / "fake-stripe.sqlite3", timeout=20)) as database:
        rows = database.execute("SELECT body FROM object WHERE kind = ? ORDER BY seq", (kind,)).fetchall()
    return [json.loads(body) for (body,) in rows]


def revenue(site: Site, key: str) -> dict[str, str]:
    """Return an organization's balance in dollars, as the REST API shows it."""
    (balance,) = Caller(site.port, key).get("/v1/revenue").json()["balances"]
    found: dict[str, str] = balance
    return found


def wait_until(is_so: Callable[[], bool], *, timeout_s: float = 180) -> None:
    """Wait for something to become so."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "It did not come to be."
        time.sleep(0.3)
