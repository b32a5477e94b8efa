"""Promise 4: the same Idempotency-Key and body get the same bytes and one charge; another body 422; still running 409.

Through the gateway's claims and the meter, in one process's and in two processes' state, with commits that are lost before
or after their effect.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from types import SimpleNamespace
from typing import Any, Final, TypeVar

from django.db import connections

from billing.books import check_books
from billing.errors import StorageUnavailable
from billing.ids import uuid7
from billing.ledger import balance, grant_credit
from billing.metering import Meter
from billing.models import Price, UsageEvent
from billing.money import Nanos
from billing.recovery import reclaim_process
from marketplace.errors import IdempotencyInProgress, IdempotencyKeyReused
from marketplace.gateway.idempotency import Claim, Claims
from marketplace.gateway.replies import Reply
from marketplace.gateway.request import Request
from marketplace.models import Organization
from marketplace.proving.acts import CREDIT_NANOS, UNIT_NANOS, in_thread, make_price, usage_of, whole_account, with_meter
from marketplace.proving.faults import losing_commit, replaced
from marketplace.proving.findings import Untried, require
from marketplace.tenants import found_organization

T = TypeVar("T")
COST: Final = 10 * UNIT_NANOS
_CALLERS: Final = 50
_KEYS: Final = 10
TRIED: Final = f"{_KEYS} keys, {_CALLERS} at once with each, in one process and in two; other bodies; lost commits; a process that died"


class Door:
    """One process's door: claims, the meter, and a model whose answer is never the same twice."""

    def __init__(self, meter: Meter, organization: Organization, price: Price) -> None:
        self.meter, self.claims, self.price, self.runs = meter, Claims(meter), price, 0
        self.account = organization.account
        self.caller: Any = SimpleNamespace(organization_id=organization.pk, livemode=True)

    async def ask(self, key: str, body: bytes = b"the same", *, path: str = "/v1/models/house/model/predict") -> Reply:
        """Send one request."""
        scope = {"method": "POST", "path": path, "headers": [(b"idempotency-key", key.encode())]}
        return await self.claims.run_once(self.caller, Request(scope, _nothing), body, self._run)

    async def _run(self, claim: Claim | None) -> Reply:
        assert claim is not None
        self.runs += 1
        reply = Reply(status=200, headers=[(b"content-type", b"text/plain")], body=f"answer {uuid7()}".encode())
        hold = await self.meter.hold([whole_account(self.account)], COST)
        try:
            usage = usage_of(self.account, self.price, replayable=True)
            receipt = await self.meter.settle(hold, usage, together=[claim.completed(lambda: reply)])
        finally:
            hold.release()
        self.meter.mark_delivered(receipt.seq)
        return reply


async def _nothing() -> Any:
    raise AssertionError


class Stuck(Door):
    """A door whose model never answers, and which drops nothing: as of a process that is gone."""

    async def _run(self, claim: Claim | None) -> Reply:
        assert claim is not None
        claim.id = uuid7()  # So that its cancellation, which a dead process has not, drops nobody's claim.
        await asyncio.sleep(60)
        raise AssertionError


async def until_answered(door: Door, key: str) -> Reply:
    """Ask as a client does that is told 409 or 503: again."""
    for _ in range(1000):
        try:
            return await door.ask(key)
        except (IdempotencyInProgress, StorageUnavailable):
            await asyncio.sleep(0.02)
    message = f"The key {key} was not answered in 20 s."
    raise Untried(message)


def through(organization: Organization, price: Price, body: Callable[[Door], Awaitable[T]]) -> T:
    """Run `body` with a door."""
    return with_meter(lambda meter: body(Door(meter, organization, price)))


def check_charges(organization: Organization, count: int = 1) -> None:
    """See that the organization was charged for so many calls and no more."""
    charged = UsageEvent.objects.filter(account=organization.account, refund__isnull=True).count()
    require(charged == count, f"{charged} calls were charged of {count} keys")
    spent = balance(organization.account).spent
    require(spent == count * COST, f"{spent} nanos were spent for {count} calls of {COST}")
    wrong = check_books()
    require(not wrong, f"the books: {wrong}")


def _check_same(replies: Collection[Reply]) -> None:
    bodies = {reply.body for reply in replies}
    require(len(bodies) == 1, f"{len(bodies)} different answers to one key")
    repeated = sum((b"idempotent-replayed", b"true") in reply.headers for reply in replies)
    require(repeated == len(replies) - 1, f"{repeated} of {len(replies)} answers say that they are repeated")


# ---------------------------------------------------------------- Scenes: each has its key answered, and charged once


def many_at_once(organization: Organization, price: Price, key: str = "a") -> None:
    """Many callers ask at once in one process."""

    async def body(door: Door) -> list[Reply]:
        return await asyncio.gather(*(until_answered(door, key) for _ in range(_CALLERS)))

    _check_same(through(organization, price, body))


def two_processes(organization: Organization, price: Price, key: str = "a") -> None:
    """Many callers ask at once, half of them at another process's door."""

    async def body(door: Door) -> list[Reply]:
        second = Meter()
        await second.start()
        try:
            doors = [door, Door(second, organization, price)]
            return await asyncio.gather(*(until_answered(doors[number % 2], key) for number in range(_CALLERS)))
        finally:
            await second.stop()

    _check_same(through(organization, price, body))


def another_body(organization: Organization, price: Price) -> None:
    """Bodies that differ by a byte are refused, and nothing runs."""

    async def body(door: Door) -> None:
        await door.ask("a")
        for other in (b"", b"the sam", b"The same", b"the same "):
            try:
                await door.ask("a", other)
            except IdempotencyKeyReused:
                continue
            require(False, f"the body {other!r} was answered under the key of another")
        require(door.runs == 1, f"the model ran {door.runs} times")

    through(organization, price, body)


def while_the_first_runs(organization: Organization, price: Price) -> None:
    """Who asks while the first runs is told so, and nothing runs."""

    async def body(door: Door) -> None:
        outcomes = await asyncio.gather(*(door.ask("a") for _ in range(20)), return_exceptions=True)
        require(door.runs == 1, f"the model ran {door.runs} times")
        kinds = sorted({type(outcome).__name__ for outcome in outcomes})
        require(kinds == ["IdempotencyInProgress", "Reply"], f"callers were told: {', '.join(kinds)}")

    through(organization, price, body)


def a_lost_commit(organization: Organization, price: Price, *, after_it_happened: bool) -> None:
    """A commit is lost, before or after its effect; the repeat is answered as the first was."""

    async def body(door: Door) -> None:
        with replaced(type(connections["default"]), "_commit", losing_commit(after_it_happened=after_it_happened)):
            first, again = await until_answered(door, "a"), await until_answered(door, "a")
        require(first.body == again.body, "a repeat after a lost commit got another answer")

    through(organization, price, body)


def a_process_that_died(organization: Organization, price: Price) -> None:
    """The claim of a process that died is free again once that is known, and not before."""

    async def body(door: Door) -> None:
        second = Meter()
        await second.start()
        dead = second.process_id
        asking = asyncio.ensure_future(Stuck(second, organization, price).ask("a"))
        await asyncio.sleep(0.3)
        try:
            await door.ask("a")
            require(False, "a key was answered that another process still runs")
        except IdempotencyInProgress:
            pass
        asking.cancel()
        await in_thread(lambda: reclaim_process(dead))
        await until_answered(door, "a")
        await second.stop()

    through(organization, price, body)


def _organization(name: str) -> Organization:
    organization = found_organization(name=name, slug=name, owner=None, by="prove")
    grant_credit(organization.account, Nanos(CREDIT_NANOS), kind="operator", reference=f"prove:{name}", by="prove")
    return organization


def prove() -> str:
    """Try it; return what was seen."""
    price, keys = make_price(), 0
    crowded = _organization("crowded")
    for number in range(_KEYS):
        (two_processes if number % 2 else many_at_once)(crowded, price, f"key {number}")
        keys += 1
    check_charges(crowded, keys)
    scenes: list[Callable[[Organization, Price], None]] = [
        another_body,
        while_the_first_runs,
        lambda organization, price: a_lost_commit(organization, price, after_it_happened=False),
        lambda organization, price: a_lost_commit(organization, price, after_it_happened=True),
        a_process_that_died,
    ]
    for number, scene in enumerate(scenes):
        organization = _organization(f"scene-{number}")
        scene(organization, price)
        check_charges(organization)
        keys += 1
    return f"{keys} keys, {keys} charges; each key's answers the same byte for byte; other bodies refused"
