"""A real site whose books are tampered with: whom it concerns is stopped within a second, others go on, and it is lifted."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.flows.calls import Caller
from tests.flows.server import ROOT, Site, start_site

pytestmark = pytest.mark.slow
_LIFT = (
    "from marketplace.models import Organization, User; from marketplace.reviews import lift_review;"
    "lift_review(Organization.objects.get(slug='demo'), reason='mended', by=User.objects.get(is_superuser=True))"
)


def run_manage(*arguments: str, var_dir: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command of the operator's beside the site."""
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "VAR_DIR": str(var_dir)}, capture_output=True, text=True, timeout=240, check=False
    )


def wait_for(caller: Caller, status: int) -> str:
    """Call until the answer is that; return its code."""
    deadline = time.monotonic() + 10
    while (answer := caller.predict()).status != status:
        assert time.monotonic() < deadline, answer.body
        time.sleep(0.1)
    return answer.code


def test_an_account_whose_books_differ_is_stopped_before_anything_runs_until_the_operator_lifts_it() -> None:
    with start_site() as site:
        demo, other = Caller(site.port, site.key), Caller(site.port, _key_of_the_house(site))
        assert [demo.predict().status, other.predict().status] == [200, 200]
        assert run_manage("check_books", var_dir=site.var_dir).returncode == 0
        with site.database() as database:
            database.execute(
                "UPDATE billing_budget SET spent_nanos = spent_nanos + 7 WHERE subject = 'account'"
                " AND account_id = (SELECT account_id FROM marketplace_organization WHERE slug = 'demo')"
            )

        checked = run_manage("check_books", "--full", "--act", var_dir=site.var_dir)

        assert (checked.returncode, "budget spent of" in checked.stdout) == (1, True), checked.stderr
        assert wait_for(demo, 503) == "account_under_review"
        charged = site.charged()
        assert demo.predict().status == 503
        assert site.charged() == charged
        assert other.predict().status == 200

        assert run_manage("shell", "-v", "0", "-c", _LIFT, var_dir=site.var_dir).returncode == 0
        wait_for(demo, 200)


def _key_of_the_house(site: Site) -> str:
    """Give the organization that runs the site credit and a key."""
    give = (
        "from billing.ledger import grant_credit; from marketplace.models import Organization;"
        "grant_credit(Organization.objects.get(slug='farebox').account, 10**9, kind='operator', reference='test', by='test')"
    )
    assert run_manage("shell", "-v", "0", "-c", give, var_dir=site.var_dir).returncode == 0
    issued = run_manage("issue_key", "farebox", var_dir=site.var_dir)
    assert issued.returncode == 0, issued.stderr
    return str(issued.stdout.strip())
