"""The in-memory cache of control data, with its races run."""

import asyncio
from collections.abc import Awaitable, Callable

from marketplace.gateway.snapshot import ReadThrough


class Source:
    """A slow table: each load waits until the test lets it go, and returns what was there when it began."""

    def __init__(self) -> None:
        self.value: str | None = "old"
        self.loads = 0
        self.release = asyncio.Event()

    async def load(self, _: str) -> str | None:
        self.loads += 1
        seen = self.value
        await self.release.wait()
        return seen


def run(scenario: Callable[[Source, ReadThrough[str]], Awaitable[None]]) -> None:
    async def main() -> None:
        source = Source()
        await scenario(source, ReadThrough(source.load))

    asyncio.run(main())


def test_many_who_ask_at_once_share_one_load() -> None:
    async def scenario(source: Source, cache: ReadThrough[str]) -> None:
        asks = [asyncio.create_task(cache.get("a")) for _ in range(50)]
        await asyncio.sleep(0)
        source.release.set()

        assert await asyncio.gather(*asks) == ["old"] * 50
        assert source.loads == 1

    run(scenario)


def test_a_miss_is_remembered_until_it_is_forgotten() -> None:
    async def scenario(source: Source, cache: ReadThrough[str]) -> None:
        source.value = None
        source.release.set()
        assert [await cache.get("a"), await cache.get("a")] == [None, None]
        assert source.loads == 1

        source.value = "made since"
        cache.forget("a")
        assert await cache.get("a") == "made since"

    run(scenario)


def test_a_load_that_read_the_old_row_is_repeated_when_the_entry_is_forgotten_meanwhile() -> None:
    async def scenario(source: Source, cache: ReadThrough[str]) -> None:
        ask = asyncio.create_task(cache.get("a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert source.loads == 1  # It has read "old" and waits.
        source.value = "revoked"
        cache.forget("a")
        source.release.set()

        assert await ask == "revoked"
        assert await cache.get("a") == "revoked"

    run(scenario)


def test_a_load_is_repeated_too_when_a_whole_group_is_forgotten() -> None:
    async def scenario(source: Source, cache: ReadThrough[str]) -> None:
        ask = asyncio.create_task(cache.get("a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        source.value = "suspended"
        cache.forget_where(lambda entry: True)
        source.release.set()

        assert await ask == "suspended"

    run(scenario)


def test_one_who_hangs_up_does_not_fail_the_others() -> None:
    async def scenario(source: Source, cache: ReadThrough[str]) -> None:
        first, second = asyncio.create_task(cache.get("a")), asyncio.create_task(cache.get("a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        source.release.set()

        assert await second == "old"

    run(scenario)


def test_a_failed_load_is_tried_again_by_the_next_who_asks() -> None:
    async def scenario(source: Source, cache: ReadThrough[str]) -> None:
        async def fail(_: str) -> str | None:
            raise ConnectionError

        source.release.set()
        flaky: ReadThrough[str] = ReadThrough(fail)
        for _ in range(2):
            try:
                await flaky.get("a")
            except ConnectionError:
                continue
            raise AssertionError
        assert await cache.get("a") == "old"

    run(scenario)
