"""A worker process as the gateway sees it: started, written to and read from without blocking the loop."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from inference import wire
from inference.arrays import Arrays, WireError, encode_arrays
from inference.devices import VISIBLE, count_gpus, expects_cuda
from inference.errors import ModelLoadFailed, WorkerLost
from inference.queueing import Runner
from inference.wire import Buffer, Frame, Kind

PACKAGE_ROOT: Final = Path(__file__).resolve().parent.parent
# Where a driver's libraries may lie, and which GPUs are ours.
_CUDA_VARIABLES: Final = ("LD_LIBRARY_PATH", VISIBLE)
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
# One read empties the socket of all but the largest outputs.
_READ_BYTES: Final = 256 * 2**10
# The worker is not the gateway's friend once it has loaded a model: this bounds what it can make us hold.
MAX_REPLY_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What every worker of an engine is started with."""

    device: str = "auto"  # As `devices.expects_cuda` takes it.
    # Address space, not memory in use: ONNX Runtime with a 20 MB model maps 0.4 GB.
    memory_bytes: int = 4 * 2**30
    gpu_model_memory_bytes: int = 4 * 2**30  # Of a GPU's memory, for each loaded model (ONNX Runtime's `gpu_mem_limit`).
    # A worker imports ONNX Runtime in 0.5 s on an idle core; a loaded machine takes its time.
    start_timeout_s: float = 60.0
    load_timeout_s: float = 60.0
    # Longest a batch runs before its worker counts as hung. RunOptions.terminate cannot stop a large MatMul.
    run_timeout_s: float = 10.0


class WorkerProcess(Runner, Protocol):
    """What a fleet needs of a worker, wherever it runs."""

    index: int
    lost: asyncio.Event
    report: dict[str, Any]

    @property
    def pid(self) -> int:
        """The process's id."""
        ...

    def resident_bytes(self) -> int | None:
        """Return the process's resident memory; None where that cannot be told."""
        ...

    def send(self, kind: Kind, *body: Buffer) -> int:
        """Send a message; return its tag."""
        ...

    async def ask(self, kind: Kind, *body: Buffer, timeout_s: float) -> dict[str, Any]:
        """Send a message and return the reply's fields."""
        ...

    async def close(self, *, grace_s: float) -> None:
        """End it."""
        ...

    async def reap(self) -> None:
        """Leave nothing of it behind."""
        ...


class Worker:
    """One process and the socket to it. Replies to `ask` are awaited, results of runs go to `on_result`."""

    def __init__(
        self,
        *,
        index: int,
        settings: WorkerSettings,
        on_result: "Callable[[Worker, Frame], None]",
        on_lost: "Callable[[Worker], None]",
    ) -> None:
        """Start the process. It answers once it has imported ONNX Runtime and entered its sandbox."""
        self.index = index
        self.lost = asyncio.Event()
        self.report: dict[str, Any] = {}
        self._loop = asyncio.get_running_loop()
        self._on_result = on_result
        self._on_lost = on_lost
        self._reader = wire.FrameReader(max_body_bytes=MAX_REPLY_BYTES)
        self._unsent: deque[memoryview] = deque()
        self._asked: dict[int, asyncio.Future[memoryview]] = {}
        self._next_tag = 0
        self._sock, theirs = socket.socketpair()
        try:
            self._process = spawn(theirs.fileno(), index=index, settings=settings)
        except OSError:  # No memory or process to be had.
            self._sock.close()
            raise
        finally:
            theirs.close()
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock.fileno(), self._read)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def resident_bytes(self) -> int | None:
        """Return the process's resident memory; None where /proc does not tell."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_bytes().split()[1])
        except (OSError, IndexError, ValueError):
            return None
        return pages * _PAGE_BYTES

    def send(self, kind: Kind, *body: Buffer) -> int:
        """Send a message, or as much of it as fits now and the rest later; return its tag."""
        self._next_tag = tag = (self._next_tag + 1) & 0xFFFFFFFF
        if sum(map(len, body)) <= _READ_BYTES:
            self._write(memoryview(wire.encode_frame(kind, tag, *body)))
        else:  # A model: not copied once more only to be sent in one piece.
            for piece in (wire.frame_header(kind, tag, sum(map(len, body))), *body):
                self._write(memoryview(piece))
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
        tag = self.send(kind, *body)
        self._asked[tag] = answer
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
        """End the process now; whoever waits for it learns that it is lost."""
        if self.lost.is_set():
            return
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._process.kill()  # Popen knows whether it has reaped the process: a reused pid is never hit.
        self.lost.set()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(WorkerLost())
        self._on_lost(self)

    async def close(self, *, grace_s: float) -> None:
        """End the stream, which ends the process; kill it if that takes longer than `grace_s`."""
        if not self.lost.is_set():
            with contextlib.suppress(OSError):  # It may have died a moment ago.
                self._sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.lost.wait(), grace_s)
            self.kill()
        await self.reap()

    async def reap(self) -> None:
        """Collect the dead process, so that it does not stay as a zombie."""
        await asyncio.to_thread(self._process.wait)

    def _read(self) -> None:
        try:
            chunk = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self.kill()
            return
        try:
            for frame in self._reader.feed(chunk):
                self._receive(frame)
        except WireError:
            self.kill()

    def _receive(self, frame: Frame) -> None:
        answer = self._asked.pop(frame.tag, None)
        if answer is None:
            self._on_result(self, frame)
        elif answer.done():
            return
        elif frame.kind == Kind.FAILED:
            answer.set_exception(ModelLoadFailed(str(frame.body, "utf-8", "replace")))
        else:
            answer.set_result(frame.body)

    def _write(self, piece: memoryview) -> None:
        if self.lost.is_set():
            return
        if not self._unsent:
            sent = self._send_some(piece)
            if sent == len(piece):
                return
            piece = piece[sent:]
            self._loop.add_writer(self._sock.fileno(), self._write_more)
        self._unsent.append(piece)

    def _write_more(self) -> None:
        while self._unsent:
            piece = self._unsent[0]
            sent = self._send_some(piece)
            if sent < len(piece):
                self._unsent[0] = piece[sent:]
                return
            self._unsent.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _send_some(self, piece: memoryview) -> int:
        try:
            return self._sock.send(piece)
        except OSError:  # Full: the writer goes on. Closed: the reader learns it, and cleans up once.
            return 0


def encode_rows(rows: Sequence[npt.NDArray[np.int64]]) -> bytes:
    """Return a batch of rows as RUN carries them."""
    lengths = np.array([row.size for row in rows], dtype=np.int64)
    return encode_arrays({"ids": rows[0].ravel() if len(rows) == 1 else np.concatenate(rows, axis=None), "lengths": lengths})


def spawn(fd: int, *, index: int, settings: WorkerSettings) -> "subprocess.Popen[bytes]":
    """Start a worker on the calling thread, whose life its own is tied to (PR_SET_PDEATHSIG)."""
    told = {
        "index": index,
        "device": settings.device,
        "gpu": index % max(1, count_gpus()),  # Workers take turns on the GPUs that there are.
        "gpu_model_memory_bytes": settings.gpu_model_memory_bytes,
        "memory_bytes": settings.memory_bytes,
        "parent_pid": os.getpid(),
    }
    environment = {
        "PYTHONPATH": str(PACKAGE_ROOT),
        "LC_ALL": "C.UTF-8",
        # numpy's BLAS would start a thread per core, which Landlock would not bind.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    if expects_cuda(settings.device):
        environment |= {name: os.environ[name] for name in _CUDA_VARIABLES if name in os.environ}
    return subprocess.Popen(  # noqa: S603 (our own interpreter and module)
        [sys.executable, "-m", "inference.worker", str(fd), json.dumps(told)],
        env=environment,
        pass_fds=(fd,),
        stdin=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
