"""Promise 1: charged means answered, answered means recorded. Promise 5: what is in doubt is the customer's.

Whatever happens to the commit, the caller and the process: the calls that cost something in the end are
exactly those that somebody was answered, or those that can be asked for again.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError, connection, connections
from django.db.models import F, Sum

from billing.books import check_books
from billing.errors import BillingError, CommitInDoubt
from billing.ids import parse_public_id
from billing.ledger import balance
from billing.metering import Meter
from billing.models import Account, Budget, GatewayProcess, Price, UsageEvent, UsageRefund
from billing.processes import ProcessIdentity
from billing.recovery import reclaim_dead_processes
from tests.billing.facts import Recorder, call, until, usage_of, whole_account, with_meter

pytestmark = pytest.mark.django_db(transaction=True)
CALLERS, ENOUGH, LOST, PATIENCE_S = 24, 300, 3, 40


def assert_charged_is_answered(account: Account, answered: Iterable[UUID]) -> None:
    """Compare what was charged and not given back with what callers were answered.

    An answer may have been given back all the same: its process was renewed or ended before its delivery was on record.
    """
    events = UsageEvent.objects.filter(account=account)
    kept = events.filter(refund__isnull=True)
    assert set(kept.values_list("pk", flat=True)) <= set(answered) <= set(events.values_list("pk", flat=True))
    assert balance(account).spent == int(kept.aggregate(total=Sum("charge_nanos"))["total"] or 0)
    assert balance(account).held == Budget.objects.get(account=account).leased_nanos == 0
    assert check_books() == []


class BrokenCommits:
    """The commit thread's connection, which breaks at COMMIT now and then: before it took effect, or after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        self.choose, self.are_on, self.lost, self.in_doubt = random.Random(seed), True, 0, 0
        owner: Any = type(connections["default"])
        commit, resolve = owner._commit, ProcessIdentity.resolve_commit
        faults = self

        def broken(wrapper: Any) -> None:
            is_hit = faults.are_on and threading.current_thread().name == "commit" and faults.choose.random() < 0.25
            if is_hit and faults.choose.random() < 0.5:
                wrapper.connection.rollback()
            else:
                commit(wrapper)
            if is_hit:
                faults.lost += 1
                message = "server closed the connection unexpectedly"
                raise OperationalError(message)

        def doubtful(identity: ProcessIdentity) -> bool:
            if faults.in_doubt < 2 and faults.choose.random() < 0.3:
                faults.in_doubt += 1
                raise CommitInDoubt(process_id=identity.id)
            return resolve(identity)

        monkeypatch.setattr(owner, "_commit", broken)
        monkeypatch.setattr(ProcessIdentity, "resolve_commit", doubtful)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_becomes_of_commits_and_callers_only_the_answered_pay(
    account: Account, price: Price, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    print(f"seed {seed}")
    choose, answered, refused = random.Random(seed), list[UUID](), list[str]()
    faults = BrokenCommits(monkeypatch, seed)

    async def one(meter: Meter) -> None:
        usage = usage_of(account, price, units=choose.randrange(1, 40))
        asked = asyncio.ensure_future(call(meter, [whole_account(account)], usage))
        if choose.random() < 0.15:  # The caller hangs up.
            await asyncio.sleep(choose.uniform(0, 0.02))
            asked.cancel()
        try:
            await asked
        except (BillingError, asyncio.CancelledError) as error:
            refused.append(type(error).__name__)
            await asyncio.sleep(0.05)
        else:
            answered.append(usage.event_id)

    async def caller(meter: Meter) -> None:
        before_s = time.monotonic()
        while (len(answered) < ENOUGH or faults.lost <= LOST) and time.monotonic() - before_s < PATIENCE_S:
            await one(meter)

    async def body(meter: Meter) -> None:
        await asyncio.gather(*(caller(meter) for _ in range(CALLERS)))
        faults.are_on = False
        await until(lambda: meter.is_open() and not meter._to_refund)

    with_meter(body)

    assert faults.lost > LOST
    assert len(answered) >= ENOUGH
    assert refused
    assert_charged_is_answered(account, answered)


def test_the_check_would_find_a_charge_without_an_answer_and_an_answer_without_a_charge(account: Account, price: Price) -> None:
    # The negative control of the promise's own check.
    event = Recorder(account).record(price)
    Budget.objects.update(leased_nanos=0)

    with pytest.raises(AssertionError):
        assert_charged_is_answered(account, [])
    with pytest.raises(AssertionError):
        assert_charged_is_answered(account, [event.pk, UUID(int=1)])


# ---------------------------------------------------------------- kill -9


def database_url() -> str:
    """Return the test database's address, for another process."""
    at = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{at['NAME']}"
    return f"postgresql://{at['USER']}:{at['PASSWORD']}@{at['HOST']}:{at['PORT']}/{at['NAME']}"


_CHILD = """
import asyncio, sys
import django
django.setup()
from uuid import UUID
from billing.ids import public_id
from billing.metering import Meter
from billing.models import Account, Price
from tests.billing.facts import call, usage_of, whole_account

account, price = Account.objects.get(), Price.objects.get()

async def caller(meter):
    while True:
        usage = usage_of(account, price)
        receipt = await call(meter, [whole_account(account)], usage, delivered=False)
        print(public_id("req", usage.event_id), flush=True)
        meter.mark_delivered(receipt.seq)

async def main():
    meter = Meter()
    await meter.start()
    await asyncio.gather(*(caller(meter) for _ in range(16)))

asyncio.run(main())
"""


@pytest.mark.parametrize("after_replies", [1, 40, 300])
def test_after_kill_9_every_reply_has_its_event_and_every_event_a_reply_or_a_refund(
    account: Account, price: Price, after_replies: int
) -> None:
    environment = {**os.environ, "DATABASE_URL": database_url(), "PYTHONPATH": str(Path.cwd())}
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(_CHILD)], stdout=subprocess.PIPE, env=environment, text=True)
    assert child.stdout is not None
    answered: set[Any] = set()
    for line in child.stdout:
        answered.add(parse_public_id("req", line.strip()))
        if len(answered) == after_replies:
            break
    child.send_signal(signal.SIGKILL)
    answered |= {found for line in child.stdout if (found := parse_public_id("req", line.strip()))}
    child.wait()
    child.stdout.close()
    GatewayProcess.objects.update(heartbeat_at=F("heartbeat_at") - timedelta(seconds=60))

    assert reclaim_dead_processes() == 1

    events = set(UsageEvent.objects.values_list("pk", flat=True))
    refunded = set(UsageRefund.objects.values_list("event_id", flat=True))
    assert answered <= events
    assert events <= answered | refunded
    assert balance(account).spent == 2_000 * len(events - refunded)
    assert balance(account).held == 0
    assert Budget.objects.get().leased_nanos == 0
    assert check_books() == []
