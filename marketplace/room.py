"""Memory that many clients share: when it is full, whoever is in it longest makes room."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

# What a client costs beside its bytes: its connection's buffers and its task.
_CLIENT_BYTES: Final = 64 * 1024


class Stay:
    """One client's part of a room."""

    __slots__ = ("held_bytes", "room", "timeout")

    def __init__(self, room: "Room", timeout: asyncio.Timeout) -> None:
        self.room, self.timeout = room, timeout
        self.held_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Hold that much more. The oldest stay ends at once where it does not fit, be it this one."""
        self.held_bytes += size_bytes
        self.room.make_fit(size_bytes)

    def renew(self, timeout_s: float) -> None:
        """Let the time begin anew, unless it is up already or others need the room."""
        if self in self.room.stays and not self.timeout.expired():
            self.timeout.reschedule(asyncio.get_running_loop().time() + timeout_s)


class Room:
    """A bounded number of bytes. Quick clients leave long before they are the oldest; only slow ones are put out."""

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0
        self.stays: dict[Stay, None] = {}

    @asynccontextmanager
    async def stay(self, *, timeout_s: float) -> AsyncIterator[Stay]:
        """Be in the room for the block.

        Raises:
            TimeoutError: the time was up, or others needed the room.
        """
        async with asyncio.timeout(timeout_s) as timeout:
            stay = Stay(self, timeout)
            self.stays[stay] = None
            stay.take(_CLIENT_BYTES)
            try:
                yield stay
            finally:
                self.stays.pop(stay, None)
                self.held_bytes -= stay.held_bytes

    def make_fit(self, size_bytes: int) -> None:
        """Count bytes that came, and put the oldest out until all fits."""
        self.held_bytes += size_bytes
        while self.held_bytes > self._limit_bytes and self.stays:
            oldest = next(iter(self.stays))
            del self.stays[oldest]
            self.held_bytes -= oldest.held_bytes
            oldest.held_bytes = 0
            if not oldest.timeout.expired():
                oldest.timeout.reschedule(0)  # Long past.
