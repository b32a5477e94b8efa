"""The fake Stripe's requests that hang, and clients that know it: the error of a time-out, without waiting for it.

A client that waits out its time for each request that hangs takes most of the time that faults are tried, so that time
would have to be short, and then a busy machine is taken for a fault. As nobody waits it out, it can be long.
"""

import asyncio
import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

import uvicorn
from urllib3.connection import HTTPConnection

from billing.providers.fake.app import FakeStripe, Receive, Scope, Send
from billing.providers.fake.server import HOST
from billing.providers.fake.store import Store
from billing.providers.fake.world import World

# How long a client waits for an answer that takes its time without being made to.
TIMEOUT_S: Final = 10.0
# How long a request hangs that the client shall give up: it goes on for a moment after that.
HANG_S: Final = TIMEOUT_S + 0.05
_STEP_S: Final = 0.01

# What tells a request that its client has given it up, by the client's port: that is one open connection's.
Hanging = dict[int, Callable[[], object]]
_port: ContextVar[int] = ContextVar("port")


class SharedStripe:
    """One server for all that this process tries, with a world of its own for each."""

    def __init__(self) -> None:
        """Choose an address; `serving_worlds` serves there."""
        self._world: World | None = None
        self._under_way: set[asyncio.Task[Any]] = set()
        self._hanging: Hanging = {}
        config = uvicorn.Config(self._answer, host=HOST, port=0, log_level="warning", access_log=False, lifespan="off", interface="asgi3")
        self.server: Final = uvicorn.Server(config)
        self.socket: Final = config.bind_socket()
        self.base_url: Final = f"http://{HOST}:{self.socket.getsockname()[1]}"

    @contextlib.contextmanager
    def world(self, *, webhook_secret: str) -> Iterator[World]:
        """Be a Stripe where nothing has happened yet, as `serving` is, without its clock."""
        world = World(Store(), base_url=self.base_url, webhook_url="", webhook_secret=webhook_secret, async_delay_s=3600)
        world.faults.hang = self._hang
        self._world = world
        try:
            with _impatient_about(self._hanging):
                yield world
        finally:
            self._world = None
            self._wait_for_the_last()
            world.store.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._world is not None, "A request came when there was no world."
        _port.set(scope["client"][1])
        task = asyncio.current_task()
        assert task
        self._under_way.add(task)
        try:
            await FakeStripe(self._world)(scope, receive, send)
        finally:
            self._under_way.discard(task)

    async def _hang(self, seconds: float) -> None:
        """Take so long; where the client would give up before, tell it, and go on for as long as is left then."""
        if seconds > TIMEOUT_S:
            port, given_up = _port.get(), asyncio.Event()
            loop = asyncio.get_running_loop()
            self._hanging[port] = lambda: loop.call_soon_threadsafe(given_up.set)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(given_up.wait(), TIMEOUT_S)
            self._hanging.pop(port, None)
            seconds -= TIMEOUT_S
        await asyncio.sleep(seconds)

    def _wait_for_the_last(self) -> None:
        deadline = time.monotonic() + 1
        while self._under_way:
            if time.monotonic() > deadline:
                for task in list(self._under_way):
                    task.get_loop().call_soon_threadsafe(task.cancel)
                deadline += 20
            time.sleep(_STEP_S)


@contextlib.contextmanager
def serving_worlds() -> Iterator[SharedStripe]:
    """Serve from a thread."""
    stripe = SharedStripe()
    thread = threading.Thread(target=stripe.server.run, args=([stripe.socket],), name="fake-stripe", daemon=True)
    thread.start()
    try:
        yield stripe
    finally:
        stripe.server.should_exit = True
        thread.join(20)
        stripe.socket.close()


@contextlib.contextmanager
def _impatient_about(hanging: Hanging) -> Iterator[None]:
    """Have connections of this process time out as soon as what they wait for hangs."""
    patient, here = HTTPConnection.getresponse, os.getpid()

    def getresponse(connection: HTTPConnection) -> Any:
        if os.getpid() != here:  # What hangs is not known to a fork.
            return patient(connection)
        assert connection.sock
        port, poll = connection.sock.getsockname()[1], select.poll()
        poll.register(connection.sock, select.POLLIN)
        ends = time.monotonic() + TIMEOUT_S
        while not poll.poll(_STEP_S * 1000) and time.monotonic() < ends:
            if give_up := hanging.pop(port, None):
                give_up()
                message = "timed out"
                raise TimeoutError(message)
        return patient(connection)

    HTTPConnection.getresponse = getresponse  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        HTTPConnection.getresponse = patient  # type: ignore[method-assign]
