"""Promise 5: doubt is the customer's. What a killed process had charged and cannot be shown to have answered is given back.

A gateway process with 16 callers is killed by `kill -9` after so many replies; then it is reclaimed, as Celery does.
"""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db.models import F

from billing.ids import parse_public_id
from billing.models import Account, GatewayProcess, Price, UsageEvent, UsageRefund
from billing.recovery import reclaim_dead_processes
from marketplace.proving.acts import database_url, make_price, open_rich_account, require_spent
from marketplace.proving.findings import Untried, require

_REPLIES: Final = (1, 20, 100, 300, 500)
TRIED: Final = f"kill -9 of a process with 16 callers, {len(_REPLIES)} times, after {_REPLIES[0]} to {_REPLIES[-1]} replies"


@dataclass(frozen=True, slots=True)
class Killed:
    """What there was after a kill and the recovery."""

    answered: set[UUID]
    events: set[UUID]
    refunded: set[UUID]


def kill_after(account: Account, price: Price, *, replies: int) -> Killed:
    """Have a process call, kill it after so many replies, reclaim it; return what that comes to."""
    child = subprocess.Popen(
        [sys.executable, "-m", "marketplace.proving.caller", str(account.pk), str(price.pk)],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": database_url()},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    answered: set[UUID] = set()
    with child.stdout as lines:
        for line in lines:
            answered |= _ids(line)
            if len(answered) == replies:
                break
        child.send_signal(signal.SIGKILL)
        for line in lines:  # What it had said by then.
            answered |= _ids(line)
    if child.wait() != -signal.SIGKILL:
        message = f"The process that was to be killed ended by itself, with {child.returncode}."
        raise Untried(message)
    GatewayProcess.objects.update(heartbeat_at=F("heartbeat_at") - timedelta(seconds=60))
    if not reclaim_dead_processes():
        message = "There was no dead process to reclaim."
        raise Untried(message)
    events = UsageEvent.objects.filter(account=account)
    refunds = UsageRefund.objects.filter(account=account)
    return Killed(answered, set(events.values_list("pk", flat=True)), set(refunds.values_list("event_id", flat=True)))


def _ids(line: str) -> set[UUID]:
    found = parse_public_id("req", line.strip())
    return {found} if found else set()


def check_killed(account: Account, price: Price, killed: Killed) -> None:
    """See that every reply has its event, and every event a reply or a refund.

    Raises:
        Broken: with what was lost or charged in doubt.
    """
    lost, doubtful = killed.answered - killed.events, killed.events - killed.answered - killed.refunded
    require(not lost, f"{len(lost)} calls were answered that are not on record")
    require(not doubtful, f"{len(doubtful)} calls were charged, neither answered nor given back")
    require_spent(account, 10 * price.unit_nanos * len(killed.events - killed.refunded))


def prove() -> str:
    """Try it; return what was seen."""
    price, all_killed = make_price(), []
    for replies in _REPLIES:
        account = open_rich_account(f"killed after {replies}")
        all_killed.append(kill_after(account, price, replies=replies))
        check_killed(account, price, all_killed[-1])
    if not any(killed.events - killed.answered for killed in all_killed):
        message = "No kill came between a call's charge and its reply."
        raise Untried(message)
    answered, refunded = (sum(len(getattr(killed, name)) for killed in all_killed) for name in ("answered", "refunded"))
    return f"{answered} answered, 0 of them lost; {refunded} in doubt, each given back"
