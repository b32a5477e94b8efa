"""Promise 1: charged means answered, answered means recorded.

Callers go on while commits are lost before and after their effect, callers hang up, and the question whether a commit
took effect finds no answer either. In the end those calls cost something that somebody was answered, and no others.
"""

import asyncio
import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from django.db import OperationalError, connections
from django.db.models import Sum

from billing.errors import BillingError, CommitInDoubt
from billing.metering import Meter
from billing.models import Account, Price, UsageEvent
from billing.processes import ProcessIdentity
from marketplace.proving.acts import call, make_price, open_rich_account, require_spent, until, usage_of, whole_account, with_meter
from marketplace.proving.faults import replaced
from marketplace.proving.findings import Untried, require

CALLERS: Final = 24
ENOUGH: Final = 300
LOST: Final = 3
_PATIENCE_S: Final = 40
_SEEDS: Final = range(3)
TRIED: Final = f"{CALLERS} callers, {len(_SEEDS)} lives of {ENOUGH} calls and more: 1 commit of 4 lost, before or after its effect, and 1 caller of 7 hangs up"


@dataclass
class Lived:
    """What callers were told while commits broke."""

    answered: list[UUID] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    lost: int = 0


class BrokenCommits:
    """The commit thread's connection, which breaks at COMMIT now and then: before it took effect, or after."""

    def __init__(self, seed: int) -> None:
        self.are_on, self.lost, self._in_doubt = True, 0, 0
        self._choose = random.Random(seed)

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Break until the block ends, or `are_on` is taken back."""
        owner: Any = type(connections["default"])
        commit, resolve = owner._commit, ProcessIdentity.resolve_commit

        def broken(wrapper: Any) -> None:
            is_hit = self.are_on and threading.current_thread().name == "commit" and self._choose.random() < 0.25
            if is_hit and self._choose.random() < 0.5:
                wrapper.connection.rollback()
            else:
                commit(wrapper)
            if is_hit:
                self.lost += 1
                message = "server closed the connection unexpectedly"
                raise OperationalError(message)

        def doubtful(identity: ProcessIdentity) -> bool:
            if self._in_doubt < 2 and self._choose.random() < 0.3:
                self._in_doubt += 1
                raise CommitInDoubt(process_id=identity.id)
            return resolve(identity)

        with ExitStack() as stack:
            stack.enter_context(replaced(owner, "_commit", broken))
            stack.enter_context(replaced(ProcessIdentity, "resolve_commit", doubtful))
            yield


def live_with_broken_commits(account: Account, price: Price, *, seed: int) -> Lived:
    """Have callers call until enough were answered and enough commits were lost; return what they were told."""
    choose, lived, faults = random.Random(seed), Lived(), BrokenCommits(seed)

    async def one(meter: Meter) -> None:
        usage = usage_of(account, price, units=choose.randrange(1, 40))
        asked = asyncio.ensure_future(call(meter, [whole_account(account)], usage))
        if choose.random() < 0.15:  # The caller hangs up.
            await asyncio.sleep(choose.uniform(0, 0.02))
            asked.cancel()
        try:
            await asked
        except (BillingError, asyncio.CancelledError) as error:
            lived.refused.append(type(error).__name__)
            await asyncio.sleep(0.05)
        else:
            lived.answered.append(usage.event_id)

    async def caller(meter: Meter) -> None:
        before_s = time.monotonic()
        while (len(lived.answered) < ENOUGH or faults.lost <= LOST) and time.monotonic() - before_s < _PATIENCE_S:
            await one(meter)

    async def body(meter: Meter) -> None:
        await asyncio.gather(*(caller(meter) for _ in range(CALLERS)))
        faults.are_on = False
        await until(lambda: meter.is_open() and not meter._to_refund)

    with faults.planted():
        with_meter(body)
    lived.lost = faults.lost
    if len(lived.answered) < ENOUGH or lived.lost <= LOST or not lived.refused:
        message = f"Only {len(lived.answered)} calls were answered and {lived.lost} commits lost within {_PATIENCE_S} s."
        raise Untried(message)
    return lived


def check_charged_is_answered(account: Account, answered: Iterable[UUID]) -> None:
    """Compare what was charged and not given back with what callers were answered.

    An answer may have been given back all the same: its process was renewed or ended before its delivery was on record.

    Raises:
        Broken: a charge without an answer, an answer without its event, or a balance that is not what they come to.
    """
    told, events = set(answered), UsageEvent.objects.filter(account=account)
    kept = events.filter(refund__isnull=True)
    unanswered, unrecorded = set(kept.values_list("pk", flat=True)) - told, told - set(events.values_list("pk", flat=True))
    require(
        not unanswered and not unrecorded,
        f"{len(unanswered)} calls were charged that nobody was answered, {len(unrecorded)} were answered that are not on record",
    )
    require_spent(account, int(kept.aggregate(total=Sum("charge_nanos"))["total"] or 0))


def prove() -> str:
    """Try it with each seed, on an account of its own; return what was seen."""
    price, lives = make_price(), []
    for seed in _SEEDS:
        account = open_rich_account(f"charged {seed}")
        lives.append(live_with_broken_commits(account, price, seed=seed))
        check_charged_is_answered(account, lives[-1].answered)
    answered, refused = sum(len(life.answered) for life in lives), sum(len(life.refused) for life in lives)
    return f"{answered} answered, all on record; {refused} refused, none charged; {sum(life.lost for life in lives)} commits were lost"
