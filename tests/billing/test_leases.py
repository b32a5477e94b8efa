"""Tests of the lease book: what a process may hold, and what it gives back."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from billing.errors import BudgetExceeded, ProcessFenced, StorageUnavailable
from billing.leases import Hold
from billing.lending import LeaseAsk, LeaseGrant
from tests.billing.bank import WIDE, Bank, SlowCommitter, book_on, drain, key_cap, turn


def test_a_hold_waits_for_nothing_while_the_lease_suffices() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=10**6))
        book = book_on(committer)
        first = asyncio.ensure_future(book.hold([WIDE], 10))
        await drain(committer)
        await first
        for _ in range(99):
            coroutine = book.hold([WIDE], 10)
            with pytest.raises(StopIteration):
                coroutine.send(None)  # It ends without having waited.
        assert committer.asked == 2  # The second in time for those who come after them.

    asyncio.run(run())


def test_more_is_asked_for_before_a_call_has_to_wait() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=10**6))
        book = book_on(committer)
        first = asyncio.ensure_future(book.hold([WIDE], 10))
        await drain(committer)
        await first
        for count in range(1_000):
            coroutine = book.hold([WIDE], 10)
            with pytest.raises(StopIteration):
                coroutine.send(None)
            if count % 40 == 0:  # The database answers within 40 calls.
                await drain(committer)
        assert committer.asked <= 12  # Still one question in a hundred calls.

    asyncio.run(run())


def test_nothing_is_asked_for_in_advance_near_the_limit() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=5_000))
        book = book_on(committer)
        first = asyncio.ensure_future(book.hold([WIDE], 10))
        await drain(committer)
        await first
        leased = committer.asked
        while book.held_nanos() < 600:  # An eighth of the budget was leased; all of it can be taken.
            with pytest.raises(StopIteration):
                book.hold([WIDE], 10).send(None)
        assert committer.asked == leased  # Other processes find the rest.

    asyncio.run(run())


def test_64_at_once_share_one_question() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=10**6))
        book = book_on(committer)
        calls = [asyncio.ensure_future(book.hold([WIDE], 10)) for _ in range(64)]
        await drain(committer)
        assert len(await asyncio.gather(*calls)) == 64
        assert committer.asked == 1  # Far from the limit the first one's lease is worth a hundred calls.

    asyncio.run(run())


def test_of_64_at_once_exactly_as_many_are_served_as_the_budget_affords() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=105))
        book = book_on(committer)
        calls = [asyncio.ensure_future(book.hold([WIDE], 10)) for _ in range(64)]
        await drain(committer)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(outcome, Hold) for outcome in outcomes) == 10
        refusal = next(outcome for outcome in outcomes if isinstance(outcome, BudgetExceeded))
        assert (refusal.subject, refusal.limit_nanos, refusal.left_nanos, refusal.asked_nanos) == ("account", 105, 5, 10)
        assert refusal.resets_at is None

    asyncio.run(run())


def test_a_small_call_is_served_where_a_large_one_before_it_did_not_fit() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=50))
        book = book_on(committer)
        large, small = asyncio.ensure_future(book.hold([WIDE], 60)), asyncio.ensure_future(book.hold([WIDE], 50))
        await drain(committer)
        outcomes = await asyncio.gather(large, small, return_exceptions=True)
        assert isinstance(outcomes[0], BudgetExceeded)
        assert isinstance(outcomes[1], Hold)

    asyncio.run(run())


def test_a_refusal_by_one_budget_holds_nothing_on_the_other() -> None:
    async def run() -> None:
        bank = Bank(account=5, key=1000)
        committer = SlowCommitter(bank)
        book = book_on(committer)
        call = asyncio.ensure_future(book.hold([WIDE, key_cap(1000)], 10))
        await drain(committer)
        with pytest.raises(BudgetExceeded) as refused:
            await call
        assert refused.value.subject == "account"
        assert book.held_nanos() == 0

    asyncio.run(run())


def test_a_capped_keys_refused_call_takes_nothing_from_the_accounts_last_money() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=10, key=0))
        book = book_on(committer)
        capped = asyncio.ensure_future(book.hold([WIDE, key_cap(0)], 10))
        free = asyncio.ensure_future(book.hold([WIDE], 10))
        await drain(committer)
        outcomes = await asyncio.gather(capped, free, return_exceptions=True)
        assert isinstance(outcomes[0], BudgetExceeded)
        assert isinstance(outcomes[1], Hold)

    asyncio.run(run())


def test_an_exhausted_budget_is_not_asked_about_for_each_call() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=5))
        book = book_on(committer)
        for _ in range(50):
            call = asyncio.ensure_future(book.hold([WIDE], 10))
            await drain(committer)
            with pytest.raises(BudgetExceeded):
                await call
        assert committer.asked == 1

    asyncio.run(run())


def test_idle_money_goes_back_and_used_money_stays() -> None:
    async def run() -> None:
        bank = Bank(account=10**6)
        committer = SlowCommitter(bank)
        book = book_on(committer)
        call = asyncio.ensure_future(book.hold([WIDE], 10))
        await drain(committer)
        hold = await call
        book.tick()
        await drain(committer)
        assert bank.leased["account"] == 1000  # It was used since the last tick.
        book.tick()
        await drain(committer)
        assert bank.leased["account"] == 10  # What the call holds.
        hold.release()
        book.tick()
        await drain(committer)
        assert bank.leased["account"] == 0

    asyncio.run(run())


def test_money_that_could_not_be_given_back_is_kept_and_tried_again() -> None:
    async def run() -> None:
        bank = Bank(account=10**6)
        committer = SlowCommitter(bank)
        book = book_on(committer)
        call = asyncio.ensure_future(book.hold([WIDE], 10))
        await drain(committer)
        (await call).release()
        book.tick()
        book.tick()
        await turn()
        committer.fail_one()
        await turn()
        assert bank.leased["account"] == 1000
        book.tick()
        await drain(committer)
        assert bank.leased["account"] == 0

    asyncio.run(run())


def test_a_lowered_cap_gives_back_what_was_leased_under_the_old_one() -> None:
    async def run() -> None:
        bank = Bank(key=10**6)
        committer = SlowCommitter(bank)
        book = book_on(committer)
        call = asyncio.ensure_future(book.hold([key_cap(10**6)], 10))
        await drain(committer)
        await call
        lowered = asyncio.ensure_future(book.hold([key_cap(15)], 10))
        await drain(committer)
        with pytest.raises(BudgetExceeded) as refused:
            await lowered
        assert (refused.value.limit_nanos, refused.value.left_nanos) == (15, 5)
        assert bank.leased["key"] == 10

    asyncio.run(run())


def test_a_new_month_is_a_new_budget_and_the_old_holds_stay_with_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        now = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC).timestamp()
        monkeypatch.setattr("billing.leases.time.time", lambda: now)
        bank = Bank(key=1000)
        committer = SlowCommitter(bank)
        asked: list[datetime] = []
        apply = bank.apply

        def noted(item: Any) -> LeaseGrant | None:
            if isinstance(item, LeaseAsk):
                asked.append(item.starts_at)
            return apply(item)

        monkeypatch.setattr(bank, "apply", noted)
        book = book_on(committer)
        november = asyncio.ensure_future(book.hold([key_cap(1000)], 10))
        await drain(committer)
        now += 2
        december = asyncio.ensure_future(book.hold([key_cap(1000)], 10))
        await drain(committer)
        assert asked == [datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)]
        (await november).release()
        book.tick()
        await drain(committer)
        assert book.held_nanos() == (await december).amount_nanos

    asyncio.run(run())


def test_a_caller_who_goes_away_while_waiting_leaves_nothing_held() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=100))
        book = book_on(committer)
        gone, stays = asyncio.ensure_future(book.hold([WIDE], 60)), asyncio.ensure_future(book.hold([WIDE], 60))
        await turn()
        committer.commit_one()
        gone.cancel()  # In the very moment that it is served.
        await drain(committer)
        assert isinstance(await stays, Hold)
        assert book.held_nanos() == 60

    asyncio.run(run())


def test_a_failed_write_refuses_all_who_wait() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=100))
        book = book_on(committer)
        calls = [asyncio.ensure_future(book.hold([WIDE], 10)) for _ in range(3)]
        await turn()
        committer.fail_one()
        assert all(isinstance(outcome, StorageUnavailable) for outcome in await asyncio.gather(*calls, return_exceptions=True))
        assert book.held_nanos() == 0

    asyncio.run(run())


def test_a_hold_on_lost_leases_cannot_be_settled() -> None:
    async def run() -> None:
        committer = SlowCommitter(Bank(account=1000))
        book = book_on(committer)
        call = asyncio.ensure_future(book.hold([WIDE], 10))
        await drain(committer)
        hold = await call
        waiting = asyncio.ensure_future(book.hold([WIDE], 900))
        await turn()
        book.forget_all()
        with pytest.raises(ProcessFenced):
            hold.start_settling()
        with pytest.raises(ProcessFenced):
            await waiting
        hold.release()
        assert book.held_nanos() == 0

    asyncio.run(run())


def test_a_hold_is_settled_once() -> None:
    async def run() -> None:
        book = book_on(SlowCommitter(Bank(account=0)))
        hold = await book.hold([], 10)
        hold.start_settling()
        hold.end_settling(charge_nanos=10)
        with pytest.raises(ValueError, match="once"):
            hold.start_settling()

    asyncio.run(run())
