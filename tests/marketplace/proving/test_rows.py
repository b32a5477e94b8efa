"""Each row can fail: with a fault planted in what keeps the promise, it says FAILED and what was seen."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection

from billing import recovery, refunding, sending
from billing.ids import uuid7
from billing.leases import LeaseBook
from billing.metering import Meter
from billing.models import OutboxRow
from billing.processes import ProcessIdentity
from billing.providers.fake.delivery import sign
from billing.providers.stripe import StripeProvider
from inference.gate.report import Report
from marketplace.gateway import idempotency
from marketplace.gateway.idempotency import MakeClaims
from marketplace.proving import facts_stay, rows
from marketplace.proving.findings import Untried
from marketplace.proving.promises import PROMISES
from marketplace.proving.rows import Row, Verdict, try_here
from marketplace.proving.till import SECRET
from marketplace.webhooks import delivering
from tests.flows.server import ROOT

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def _site_of_its_own(tmp_path: Path, settings: Any) -> None:
    """Logs of gateways go where the test may write; models' folders are its own, too."""
    settings.VAR_DIR = tmp_path


def plant_in_programs(patch: Patch, module: str, statement: str) -> None:
    """Have each Python program that is started from here run `statement` on a module once it is imported."""
    folder = django_settings.VAR_DIR / "plant"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_PLANT.format(module=module, statement=statement))
    patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")


_PLANT = """
import importlib.util, sys

class Plant:
    def find_spec(self, name, path, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        original = spec.loader.exec_module

        def exec_module(module):
            original(module)
            {statement}

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Plant())
"""


def forget_narrow_caps(patch: Patch) -> None:
    """Hold each call on the account alone, not on its key's cap."""
    hold = LeaseBook.hold
    patch.setattr(LeaseBook, "hold", lambda self, budgets, amount: hold(self, budgets[:1], amount))


def drop_a_trigger(patch: Patch) -> None:
    """Leave usage events open to changes."""
    with connection.cursor() as cursor:
        on = "" if connection.vendor == "sqlite" else " ON billing_usageevent"
        cursor.execute(f"DROP TRIGGER billing_usageevent_no_update{on}")


def look_at_no_receipts(patch: Patch) -> None:
    """Check everything but the receipts."""
    patch.setattr(facts_stay, "check_receipts", list)


def keep_what_is_orphaned(patch: Patch) -> None:
    """Charge callers who hung up, and give nothing back."""
    patch.setattr(Meter, "_refund", lambda self, settlement: self._delivered.add(settlement.seq))


def say_that_a_lost_commit_took_effect(patch: Patch) -> None:
    """Take each commit whose fate is unknown for done: its callers are answered."""
    patch.setattr(ProcessIdentity, "resolve_commit", lambda self: True)


def claim_nothing(patch: Patch) -> None:
    """Run each request, whatever its Idempotency-Key."""
    patch.setattr(MakeClaims, "write", lambda self, items: [None] * len(items))


def take_bodies_for_the_same(patch: Patch) -> None:
    """Look at the key alone, not at the body."""
    patch.setattr(idempotency, "hashlib", SimpleNamespace(sha256=lambda body: hashlib.sha256()))


def give_nothing_back(patch: Patch) -> None:
    """Reclaim a dead process's leases, and keep what it charged in doubt."""
    patch.setattr(recovery, "refund_events", lambda *_, **__: 0)


def ask_under_fresh_keys(patch: Patch) -> None:
    """Send each attempt of a row under a key of its own, so that Stripe does it again."""
    patch.setattr(OutboxRow, "idempotency_key", property(lambda row: f"fresh-{uuid7()}"))


def believe_any_signature(patch: Patch) -> None:
    """Take webhooks for Stripe's, whoever signed them."""
    read = StripeProvider.read_webhook
    patch.setattr(StripeProvider, "read_webhook", lambda self, body, _: read(self, body, sign(body, SECRET)))


def send_what_waits_no_more(patch: Patch) -> None:
    """Leave rows to the broker, which is down."""
    patch.setattr(sending, "sweep", lambda: 0)


def deliver_without_claiming(patch: Patch) -> None:
    """Let each worker send each webhook that is due, though another does."""
    patch.setattr(delivering, "_CLAIM", timedelta(hours=-1))


def lose_refunds(patch: Patch) -> None:
    """Put refunds on record and give nothing back."""
    patch.setattr(refunding, "_give_back", lambda *_: None)


def hear_of_no_change(patch: Patch) -> None:
    """Have gateway processes follow the feed of changes and forget nothing."""
    plant_in_programs(patch, "marketplace.gateway.feed", "module.ChangeFeed._apply = lambda *_: None")


def keep_the_environment(patch: Patch) -> None:
    """Leave the sandbox its process's environment."""
    plant_in_programs(patch, "inference.sandbox", "module._clear_environment = lambda **_: None")


def limit_nothing(patch: Patch) -> None:
    """Leave the sandbox all memory, files and processes."""
    plant_in_programs(patch, "inference.sandbox", "module._limit_resources = lambda **_: {}")


def pass_all(patch: Patch) -> None:
    """Publish what nothing was found against, as if nothing ever were."""
    patch.setattr(Report, "passed", True)


def find_any_webhook(patch: Patch) -> None:
    """Look webhooks up by their id alone."""
    plant_in_programs(patch, "marketplace.api.webhooks", "module._visible = lambda _: module.WebhookEndpoint.objects.all()")


FAULTS: list[tuple[int, Callable[[Patch], None], str]] = [
    (1, keep_what_is_orphaned, "[1-9][0-9]* calls were charged that nobody"),
    (1, say_that_a_lost_commit_took_effect, "[1-9][0-9]* were answered that are not on record"),
    (2, forget_narrow_caps, "of a cap worth 100"),
    (3, lose_refunds, "granted, spent and held are"),
    (4, claim_nothing, "different answers to one key"),
    (4, take_bodies_for_the_same, "was answered under the key of another"),
    (5, give_nothing_back, "charged, neither answered nor given back"),
    (6, ask_under_fresh_keys, "paid|charged twice|lost"),
    (6, believe_any_signature, "a forged webhook was taken"),
    (12, ask_under_fresh_keys, "Stripe has"),
    (12, deliver_without_claiming, "of 12 webhooks 12 came"),
    (12, send_what_waits_no_more, "Stripe has|still wait"),
    (7, find_any_webhook, "webhooks/{webhook_id}.* of another's was answered 200"),
    (8, hear_of_no_change, "paid a price that held from"),
    (9, hear_of_no_change, "calls were answered that began more than 1 s after"),
    (10, keep_the_environment, "it sees the environment: .*SECRET"),
    (10, limit_nothing, "a process in the sandbox could: .*map memory"),
    (10, pass_all, "the gate passed a model that reads a file"),
    (11, look_at_no_receipts, "a receipt's signature"),
]


@pytest.mark.parametrize(("number", "plant", "seen"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_with_a_fault_planted_the_row_says_failed(monkeypatch: Patch, number: int, plant: Callable[[Patch], None], seen: str) -> None:
    plant(monkeypatch)

    row = try_here(number)

    assert row.verdict == Verdict.FAILED, row
    assert re.search(seen, row.seen), row


@pytest.mark.django_db(transaction=False)
def test_a_table_that_takes_changes_fails_the_row_of_facts(monkeypatch: Patch) -> None:
    drop_a_trigger(monkeypatch)

    row = try_here(11)

    assert (row.verdict, row.seen) == (Verdict.FAILED, "not protected: billing_usageevent"), row


@pytest.mark.parametrize("number", PROMISES)
def test_without_a_fault_it_is_kept(number: int) -> None:
    row = try_here(number)

    assert row.verdict == Verdict.KEPT, row
    assert row.render().startswith(f"{number:>2} | ")
    assert Row.parse(json.dumps(row.as_json())) == Row(**{**row.as_json(), "verdict": Verdict.KEPT})


@pytest.mark.parametrize(("error", "told"), [(Untried("no such kernel"), "no such kernel"), (KeyError("x"), "ended with KeyError")])
def test_what_could_not_be_tried_is_not_kept(monkeypatch: Patch, error: Exception, told: str) -> None:
    def fail() -> Any:
        raise error

    monkeypatch.setattr(rows, "PROMISES", {2: type(PROMISES[2])(2, "says", "tried", fail)})

    row = try_here(2)

    assert (row.verdict, told in row.seen) == (Verdict.UNTRIED, True), row
