"""Waiting for clients, bounded."""

import asyncio

from marketplace.gateway.patience import Patience


async def _wait(patience: Patience, *, limit_s: float, takes_s: float) -> str:
    patience.begin(limit_s)
    try:
        await asyncio.sleep(takes_s)
    except asyncio.CancelledError:
        if not patience.end():
            raise
        await asyncio.sleep(0)  # The task goes on as if nothing had been cancelled.
        return "overdue"
    finally:
        patience.end()
    await asyncio.sleep(0)
    return "in time"


def test_who_waits_too_long_is_ended_and_who_does_not_is_left_alone() -> None:
    async def main() -> list[str]:
        patience = Patience()
        patience.start()
        try:
            waits = [_wait(patience, limit_s=0.1, takes_s=60), _wait(patience, limit_s=60, takes_s=0.1)]
            return await asyncio.gather(*[asyncio.create_task(wait) for wait in waits])
        finally:
            await patience.stop()

    assert asyncio.run(main()) == ["overdue", "in time"]


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def main() -> bool:
        patience = Patience()
        patience.start()
        task = asyncio.create_task(_wait(patience, limit_s=60, takes_s=60))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await patience.stop()
        return task.cancelled()

    assert asyncio.run(main())
