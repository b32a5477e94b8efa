"""Promise 4: the same Idempotency-Key and body get the same bytes and one charge; another body 422; still running 409.

Through the gateway's claims and the meter, in one process and in two, with commits that are lost before or after
their effect; `tests/flows/test_money.py` holds it over HTTP.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from billing.books import check_books
from billing.errors import StorageUnavailable
from billing.ids import uuid7
from billing.ledger import balance, grant_credit
from billing.metering import Meter
from billing.models import Account, Price, UsageEvent
from billing.money import Nanos
from billing.recovery import reclaim_process
from marketplace.errors import IdempotencyInProgress, IdempotencyKeyReused
from marketplace.gateway.idempotency import Claim, Claims
from marketplace.gateway.replies import Reply
from marketplace.gateway.request import Request
from marketplace.models import Organization
from tests.billing.facts import in_thread, lose_next_commit, usage_of, whole_account, with_meter

pytestmark = pytest.mark.django_db(transaction=True)
COST = 2_000


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


@pytest.fixture
def rich(organization: Organization) -> Organization:
    """An organization with 10 dollars."""
    grant_credit(organization.account, Nanos(10**10), kind="operator", reference="promise 4", by="test")
    return organization


def through(rich: Organization, price: Price, body: Callable[[Door], Awaitable[Any]]) -> Any:
    """Run `body` with a door."""
    return with_meter(lambda meter: body(Door(meter, rich, price)))


async def until_answered(door: Door, key: str) -> Reply:
    """Ask as a client does that is told 409 or 503: again."""
    for _ in range(400):
        try:
            return await door.ask(key)
        except (IdempotencyInProgress, StorageUnavailable):
            await asyncio.sleep(0.02)
    raise AssertionError


def assert_one_charge(account: Account, count: int = 1) -> None:
    assert UsageEvent.objects.filter(account=account, refund__isnull=True).count() == count
    assert balance(account).spent == count * COST
    assert check_books() == []


def test_50_at_once_get_the_same_bytes_and_are_charged_once(rich: Organization, price: Price) -> None:
    async def body(door: Door) -> list[Reply]:
        return await asyncio.gather(*(until_answered(door, "a") for _ in range(50)))

    replies = through(rich, price, body)

    assert len({reply.body for reply in replies}) == 1
    assert sum((b"idempotent-replayed", b"true") in reply.headers for reply in replies) == 49
    assert_one_charge(rich.account)


def test_two_processes_charge_once(rich: Organization, price: Price) -> None:
    async def body(door: Door) -> list[Reply]:
        second = Meter()
        await second.start()
        try:
            doors = [door, Door(second, rich, door.price)]
            return await asyncio.gather(*(until_answered(doors[number % 2], "a") for number in range(30)))
        finally:
            await second.stop()

    replies = through(rich, price, body)

    assert len({reply.body for reply in replies}) == 1
    assert_one_charge(rich.account)


def test_another_body_is_refused_and_runs_nothing(rich: Organization, price: Price) -> None:
    async def body(door: Door) -> int:
        await door.ask("a")
        for other in (b"", b"the sam", b"The same", b"the same "):
            with pytest.raises(IdempotencyKeyReused):
                await door.ask("a", other)
        return door.runs

    assert through(rich, price, body) == 1
    assert_one_charge(rich.account)


def test_while_the_first_runs_others_are_told_so_and_run_nothing(rich: Organization, price: Price) -> None:
    async def body(door: Door) -> None:
        outcomes = await asyncio.gather(*(door.ask("a") for _ in range(20)), return_exceptions=True)
        assert door.runs == 1
        assert {type(outcome) for outcome in outcomes} == {Reply, IdempotencyInProgress}

    through(rich, price, body)
    assert_one_charge(rich.account)


@pytest.mark.parametrize("after_it_happened", [False, True])
def test_a_lost_commit_charges_at_most_once_and_a_repeat_is_answered(
    rich: Organization, price: Price, monkeypatch: pytest.MonkeyPatch, *, after_it_happened: bool
) -> None:
    async def body(door: Door) -> tuple[Reply, Reply]:
        lose_next_commit(monkeypatch, after_it_happened=after_it_happened)
        return await until_answered(door, "a"), await until_answered(door, "a")

    first, again = through(rich, price, body)

    assert first.body == again.body
    assert_one_charge(rich.account)


def test_a_claim_of_a_process_that_died_is_free_again(rich: Organization, price: Price) -> None:
    async def body(door: Door) -> Reply:
        second = Meter()
        await second.start()
        dead = second.process_id
        asking = asyncio.ensure_future(Stuck(second, rich, door.price).ask("a"))
        await asyncio.sleep(0.3)
        with pytest.raises(IdempotencyInProgress):
            await door.ask("a")
        asking.cancel()
        await in_thread(lambda: reclaim_process(dead))
        reply = await until_answered(door, "a")
        await second.stop()
        return reply

    assert through(rich, price, body).status == 200
    assert_one_charge(rich.account)


class Stuck(Door):
    """A door whose model never answers, and which drops nothing: as of a process that is gone."""

    async def _run(self, claim: Claim | None) -> Reply:
        assert claim is not None
        claim.id = uuid7()  # So that its cancellation, which a dead process has not, drops nobody's claim.
        await asyncio.sleep(60)
        raise AssertionError
