"""Run the fake as a real HTTP server on loopback: a process of its own, or a thread of a test."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn

from billing.providers.fake.app import FakeStripe
from billing.providers.fake.store import Store
from billing.providers.fake.world import World

HOST: Final = "127.0.0.1"  # Never another: whoever reaches the fake can make payments out of nothing.
API_KEY: Final = "sk_test_fake"
_START_TIMEOUT_S: Final = 20


def _server(world: World, *, port: int) -> uvicorn.Server:
    config = uvicorn.Config(
        FakeStripe(world),
        host=HOST,
        port=port,
        log_level="warning",
        access_log=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def serve(*, port: int, state: Path, webhook_url: str, webhook_secret: str) -> None:
    """Serve until a signal; what happened is kept in the file `state`."""
    base_url = f"http://{HOST}:{port}"
    _server(World(Store(state), base_url=base_url, webhook_url=webhook_url, webhook_secret=webhook_secret), port=port).run()


@contextlib.contextmanager
def serving(*, webhook_url: str = "", webhook_secret: str = "whsec_fake", async_delay_s: float = 3600.0) -> Iterator[World]:  # noqa: S107 (signs a fake's webhooks)
    """Serve from a thread, with everything in memory; yield the state, which may be changed at will."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    base_url = f"http://{HOST}:{port}"
    world = World(Store(), base_url=base_url, webhook_url=webhook_url, webhook_secret=webhook_secret, async_delay_s=async_delay_s)
    server = _server(world, port=port)
    thread = threading.Thread(target=server.run, name="fake-stripe", daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            message = "The fake did not start."
            raise RuntimeError(message)
        time.sleep(0.01)
    try:
        yield world
    finally:
        server.should_exit = True
        thread.join(_START_TIMEOUT_S)
