"""What the line alone costs: CPU per metered call of the gateway's own Python, warm. `python -m tests.bench.line`.

Real: uvicorn's parser and our protocol, the whole of `gateway/`, the meter's holds, a key and the starter model from a database.
Left out: sockets, workers, and the commit thread, each of which answers at once. So the figure is what no kernel, no cold
cache and no neighbour adds to; the difference to what `make bench` shows for the event loop is theirs.
`--profile` shows where it goes, by `cProfile`, which makes calls of functions look dearer than they are.
"""

import argparse
import asyncio
import cProfile
import gc
import json
import os
import pstats
import re
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

import numpy as np
import uvloop

from tests.bench.texts import load_texts
from tests.flows.server import ROOT

_CONNECTIONS = 32
_TURNS = 10  # Of all connections, in each timed round.


class Transport:
    """Takes what is written to a connection."""

    def __init__(self) -> None:
        self.written = b""

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Say that the client is on this machine."""
        return ("127.0.0.1", 1) if name in {"peername", "sockname"} else default

    def write(self, data: bytes) -> None:
        """Keep the reply."""
        self.written = data

    def is_closing(self) -> bool:
        """Whether the connection ends."""
        return False

    def nothing(self) -> None:
        """Do nothing."""

    pause_reading = resume_reading = close = abort = nothing


class Committer:
    """Says of every write that it is done, as soon as it is asked for the second time."""

    def __init__(self, process_id: Any) -> None:
        self.process_id, self.refusal, self.written_at = process_id, None, float("inf")
        self.waiting: list[tuple[Any, asyncio.Future[Any]]] = []

    def submit(self, _kind: object, _item: object) -> "asyncio.Future[Any]":
        """Lease more than all calls need."""
        from billing.lending import LeaseGrant

        granted = {"granted_nanos": 10**15, "limit_nanos": 10**18, "spent_nanos": 0, "left_nanos": 10**17}
        future = asyncio.get_running_loop().create_future()
        future.set_result(LeaseGrant(process_id=self.process_id, budget_id=1, **granted))
        return future

    def submit_together(self, writes: Any, **_: object) -> "asyncio.Future[Any]":
        """Keep a settlement until `answer`."""
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((writes[0][1], future))
        return future

    def answer(self) -> None:
        """Say what each settlement came to."""
        from billing.settling import Settled

        waiting, self.waiting = self.waiting, []
        for settlement, future in waiting:
            settlement.bill.charge_nanos = settlement.charge_nanos
            future.set_result([Settled(settlement.charge_nanos), None])


class Bench:
    """The gateway with 32 connections."""

    def __init__(self, key: str, texts: list[str]) -> None:
        from uvicorn.config import Config
        from uvicorn.server import ServerState

        from marketplace.asgi import FrontDoor
        from marketplace.gateway.service import GatewayService
        from marketplace.http import BoundedProtocol

        service, door = GatewayService(), FrontDoor()
        door._service = service
        service.snapshot.mark_fresh(at=float("inf"))
        service.engine.infer = self._infer
        self._committer: Any = Committer(service.meter.process_id)
        service.meter._committer = service.meter._leases._committer = self._committer
        self._running: list[asyncio.Future[Any]] = []
        config = Config(door, log_level="warning", access_log=False, server_header=False, proxy_headers=False, ws="none")
        config.load()
        state = ServerState()
        self._connections: list[tuple[Any, Transport]] = []
        for _ in range(_CONNECTIONS):
            protocol, transport = BoundedProtocol(config=config, server_state=state, app_state={}), Transport()
            protocol.connection_made(transport)
            self._connections.append((protocol, transport))
        head = "POST /v1/models/farebox/sentiment/predict HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n"
        bodies = [json.dumps({"input_data": text}) for text in texts]
        self._requests = [f"{head}Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode() for body in bodies]
        self._next = 0

    async def _infer(self, *_: object, **__: object) -> Any:
        future = asyncio.get_running_loop().create_future()
        self._running.append(future)
        return await future

    async def turn(self) -> None:
        """Send a call on each connection, and wait for all replies."""
        from inference.engine import Inferred

        for protocol, transport in self._connections:
            transport.written = b""
            protocol.data_received(self._requests[self._next % len(self._requests)])
            self._next += 1
        output = {"probability": np.array([[0.73]], np.float32)}
        while not all(transport.written for _, transport in self._connections):
            await asyncio.sleep(0)
            running, self._running = self._running, []
            for future in running:
                future.set_result(Inferred(output, 1000, 900, 4, "cpu"))
            self._committer.answer()
        assert all(transport.written.startswith(b"HTTP/1.1 200 ") for _, transport in self._connections), self._connections[0][1].written


async def measure(bench: Bench, *, rounds: int, profile: bool) -> None:
    """Print microseconds of CPU per call."""
    for _ in range(3):  # Keys and models come from the database, in a thread, the first time.
        await bench.turn()
    gc.collect()
    gc.freeze()  # As the gateway does when it has started.
    gc.set_threshold(20_000, 10, 10)
    if profile:
        with cProfile.Profile() as profiler:
            for _ in range(rounds):
                await bench.turn()
        stats: Any = pstats.Stats(profiler)
        print(f"{stats.total_calls / rounds / _CONNECTIONS:.0f} calls of functions a metered call")
        stats.sort_stats("tottime").print_stats(50)
        return
    taken = []
    for _ in range(rounds):
        before = time.thread_time()
        for _ in range(_TURNS):
            await bench.turn()
        taken.append((time.thread_time() - before) / _TURNS / _CONNECTIONS * 1e6)
    print(f"the line, warm: {min(taken):.0f} us a call at best, {median(taken):.0f} in the median of {rounds} rounds")


def main() -> None:
    """Set a site up, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="farebox-bench-") as folder:
        rate = "100000000"
        os.environ |= {"VAR_DIR": folder, "LIVE_KEY_RATE_PER_MINUTE": rate, "ORGANIZATION_RATE_PER_MINUTE": rate}
        os.environ["DJANGO_SETTINGS_MODULE"] = "marketplace.settings"
        told = subprocess.run([sys.executable, "manage.py", "setup"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        found = re.search(r"fb_sk_live_[0-9A-Za-z]{38}", told)
        assert found, told
        texts, _ = load_texts(
            datasets=ROOT / "var" / "datasets", vocabulary=ROOT / "inference" / "starter" / "sentiment" / "vocabulary.txt"
        )
        uvloop.install()
        import django

        django.setup()
        asyncio.run(_run(found[0], texts[:256], arguments))


async def _run(key: str, texts: list[str], arguments: argparse.Namespace) -> None:
    await measure(Bench(key, texts), rounds=arguments.rounds, profile=arguments.profile)


if __name__ == "__main__":
    main()
