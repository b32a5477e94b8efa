"""Workers on other machines: Ray actors that each keep one sandboxed worker process, and carry messages to it (ADR 15).

An actor runs no model. It starts the very process that a gateway starts beside itself (`pool`), in the same
sandbox, on whichever node Ray has room, and passes bytes both ways: so batches, answers and what a model can
reach are the same, and what comes back is checked like what comes from a worker nearby.
Needs the extra `ray`; nothing here is imported with ENGINE=local.
"""

import asyncio
import functools
import hashlib
import json
import logging
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import ray

from inference import wire
from inference.arrays import Arrays, WireError
from inference.errors import ModelLoadFailed, WorkerLost
from inference.pool import MAX_REPLY_BYTES, PACKAGE_ROOT, WorkerSettings, encode_rows, spawn
from inference.wire import Buffer, Frame, Kind

logger = logging.getLogger(__name__)

# Each worker process is one core's worth of arithmetic (`session`: one thread), and its actor only waits for it.
_CORES: Final = 1


class Relay:
    """Runs inside a Ray actor: one worker process, and one message to it at a time, in order."""

    def __init__(self, index: int, settings: WorkerSettings, code: str) -> None:
        """Start the process.

        Raises:
            RuntimeError: this node has other code than the gateway; the two would not understand each other.
        """
        if code != code_digest():
            message = "this node's Farebox is not the gateway's: install the same version on both"
            raise RuntimeError(message)
        self._sock, theirs = socket.socketpair()
        self._process = spawn(theirs.fileno(), index=index, settings=settings)
        theirs.close()

    def pid(self) -> int:
        """Return the worker process's id, on its node."""
        return self._process.pid

    def exchange(self, message: bytes) -> bytes:
        """Give the process a message and return its reply.

        Raises:
            ConnectionError: the process is gone. The actor is of no more use.
        """
        self._sock.sendall(message)
        reply = wire.receive_frame(self._sock, max_body_bytes=MAX_REPLY_BYTES)
        if reply is None:
            raise ConnectionResetError
        return wire.encode_frame(reply.kind, reply.tag, reply.body)


@functools.cache
def code_digest() -> str:
    """Return the SHA-256 of this package's code, by which two machines know that they have the same."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class RayWorker:
    """A worker on some node, as the fleet sees it: what `pool.Worker` is for a process beside us."""

    def __init__(
        self,
        *,
        index: int,
        settings: WorkerSettings,
        on_result: "Callable[[RayWorker, Frame], None]",
        on_lost: "Callable[[RayWorker], None]",
    ) -> None:
        """Ask Ray for an actor. Without room for one, the first `ask` runs out of time."""
        self.index = index
        self.lost = asyncio.Event()
        self.report: dict[str, Any] = {}
        self.pid = 0  # On its own node; known once it has answered.
        self._loop = asyncio.get_running_loop()
        self._on_result = on_result
        self._on_lost = on_lost
        self._asked: dict[int, asyncio.Future[memoryview]] = {}
        self._next_tag = 0
        relay = ray.remote(Relay).options(num_cpus=_CORES, num_gpus=1 if settings.device == "cuda" else 0, max_restarts=0)
        self._actor = relay.remote(index, settings, code_digest())
        self._actor.pid.remote().future().add_done_callback(self._note_pid)

    def resident_bytes(self) -> int | None:
        """Return None: the process is another machine's. A version then counts as large as its file."""
        return None

    def send(self, kind: Kind, *body: Buffer) -> int:
        """Send a message; return its tag. Ray's own part of the way is this thread's, too."""
        self._next_tag = tag = (self._next_tag + 1) & 0xFFFFFFFF
        if not self.lost.is_set():
            reply: Future[bytes] = self._actor.exchange.remote(wire.encode_frame(kind, tag, *body)).future()
            reply.add_done_callback(lambda done: self._tell(self._receive, done))
        return tag

    def run(self, version: int, rows: Sequence[npt.NDArray[np.int64]]) -> int:
        """Send a batch of one version, known to the worker by number; return the tag of its result."""
        return self.send(Kind.RUN, wire.RUN_PREFIX.pack(version), encode_rows(rows))

    def run_tensors(self, version: int, outputs: Sequence[str], calls: Sequence[Arrays]) -> int:
        """Send a batch of calls with tensors; return the tag of its result."""
        return self.send(Kind.RUN_TENSORS, wire.encode_tensor_run(version, outputs, calls))

    async def ask(self, kind: Kind, *body: Buffer, timeout_s: float) -> dict[str, Any]:
        """Send a message and return the reply's fields. A worker that takes longer is killed.

        Raises:
            ModelLoadFailed: it answered that it could not.
            WorkerLost: it died or was killed before it answered.
        """
        if self.lost.is_set():
            raise WorkerLost
        answer: asyncio.Future[memoryview] = self._loop.create_future()
        self._asked[self.send(kind, *body)] = answer
        timer = self._loop.call_later(timeout_s, self.kill)
        try:
            fields = json.loads(bytes(await answer))
        except ValueError as error:
            self.kill()
            raise WorkerLost from error
        finally:
            timer.cancel()
        return fields if isinstance(fields, dict) else {}

    def kill(self) -> None:
        """End the actor now, and with it its process; whoever waits for it learns that it is lost."""
        if self.lost.is_set():
            return
        self.lost.set()
        ray.kill(self._actor, no_restart=True)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(WorkerLost())
        self._on_lost(self)

    async def close(self, *, grace_s: float) -> None:  # noqa: ARG002 (it has nothing to finish: its reply would come to nobody)
        """End the actor."""
        self.kill()

    async def reap(self) -> None:
        """Do nothing: its node collects the process."""

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        """Call back on the event loop, from one of Ray's threads."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # The loop is closed: nobody waits any more.
            logger.info("The event loop ended before a Ray worker answered.")

    def _note_pid(self, done: "Future[int]") -> None:
        if done.exception() is None:
            self.pid = done.result()

    def _receive(self, done: "Future[bytes]") -> None:
        """Take a reply: to `ask`, or a batch's."""
        error = done.exception()
        if error is not None:
            if not self.lost.is_set():
                logger.warning("worker %d: %s", self.index, str(error).strip().splitlines()[-1])
            self.kill()
            return
        if self.lost.is_set():
            return
        try:
            frames = list(wire.FrameReader(max_body_bytes=MAX_REPLY_BYTES).feed(done.result()))
            for frame in frames:
                self._hand_on(frame)
        except WireError:
            self.kill()

    def _hand_on(self, frame: Frame) -> None:
        answer = self._asked.pop(frame.tag, None)
        if answer is None:
            self._on_result(self, frame)
        elif answer.done():
            return
        elif frame.kind == Kind.FAILED:
            answer.set_exception(ModelLoadFailed(str(frame.body, "utf-8", "replace")))
        else:
            answer.set_result(frame.body)


def connect(address: str, *, cores: int | None = None) -> None:
    """Join the Ray cluster, once in a process. Blocks for seconds.

    Args:
        address: "host:port" of its head, or "ray://..."; "local" starts one on this machine for as long as we run.
        cores: How many a local one pretends to have; None: those that are there.

    Raises:
        ConnectionError: there is none.
    """
    # Nodes find this package where it is here: install Farebox at the same path on each.
    settings: dict[str, Any] = {"runtime_env": {"env_vars": {"PYTHONPATH": str(PACKAGE_ROOT)}}}
    if address == "local":
        # On loopback: whoever reaches a Ray cluster's ports may run code on it.
        settings |= {"num_cpus": cores, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # It reports home unless told otherwise.
    ray.init(address=address, log_to_driver=False, configure_logging=False, ignore_reinit_error=True, **settings)


def disconnect() -> None:
    """Leave the cluster, which ends what this process started there."""
    ray.shutdown()
