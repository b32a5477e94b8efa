"""A worker process: `python -m inference.worker <fd> <settings as JSON>`.

One blocking loop over one socket: no thread, no polling, no interpreter lock shared with the
gateway. The socket's end is the worker's end.
"""

import ctypes
import json
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from inference import sandbox, wire
from inference.arrays import decode_arrays, encode_arrays
from inference.devices import expects_cuda
from inference.errors import InferenceError, InvalidInput, ModelFailed, ModelLoadFailed
from inference.signature import Signature
from inference.tensors import collation_from_json
from inference.wire import Kind

# A model (200 MB at most) and its description; batches are far smaller.
MAX_REQUEST_BYTES: Final = 256 * 2**20
# The gateway kills a worker that answers more than 64 MB.
MAX_REPLY_BYTES: Final = 48 * 2**20
# An error's text goes to a log line, and ONNX Runtime's can hold whole tensors.
_MAX_ERROR_CHARACTERS: Final = 2_000
# Names of operators that a reply to a load may hold, the most frequent first.
_MAX_TOLD_OPERATORS: Final = 20

# After these, megabytes are free again; what glibc keeps of them would count as the model's.
_HEAVY: Final = frozenset({Kind.LOAD, Kind.UNLOAD})
_libc: Final = ctypes.CDLL(None)


def main(arguments: list[str]) -> None:
    """Serve until the gateway closes the socket."""
    fd, settings = int(arguments[0]), json.loads(arguments[1])
    sandbox.detach(parent_pid=settings["parent_pid"])
    from inference import providers, session  # noqa: PLC0415 (0.5 s, in which the gateway may die)

    asks = expects_cuda(settings["device"])
    fault = providers.load_cuda_libraries() if asks else None
    cuda = asks and fault is None
    sock = socket.socket(fileno=fd)
    sock.setblocking(True)
    report = asdict(sandbox.enter(keep_fd=fd, index=settings["index"], memory_bytes=settings["memory_bytes"], cuda=cuda))
    gpu = providers.Gpu(number=settings["gpu"], model_memory_bytes=settings["gpu_model_memory_bytes"]) if cuda else None
    if gpu is not None and (fault := providers.find_cuda_fault(gpu)) is not None:
        gpu = None
    report |= {"asks_cuda": asks, "cuda_fault": fault}
    _Server(sock, open_session=session.Session, gpu=gpu, report=report).serve()


class _Server:
    """Answers the gateway's messages in order, one reply to each."""

    def __init__(self, sock: socket.socket, *, open_session: Callable[..., Any], gpu: Any, report: dict[str, Any]) -> None:
        self._sock = sock
        self._open_session = open_session
        self._gpu = gpu  # `providers.Gpu`, or None for the CPU.
        self._report = report
        self._sessions: dict[int, Any] = {}
        self._answers = {
            Kind.PING: self._ping,
            Kind.LOAD: self._load,
            Kind.UNLOAD: self._unload,
            Kind.RUN: self._run,
            Kind.RUN_TENSORS: self._run_tensors,
        }

    def serve(self) -> None:
        """Reply to messages until the stream ends."""
        while (frame := wire.receive_frame(self._sock, max_body_bytes=MAX_REQUEST_BYTES)) is not None:
            try:
                reply = self._answers[frame.kind](frame.tag, frame.body)
            except InvalidInput:  # What is wrong with it is told by the gateway, in words of ours.
                reply = wire.encode_frame(Kind.REJECTED, frame.tag)
            except InferenceError as error:
                reply = wire.encode_frame(Kind.FAILED, frame.tag, str(error)[:_MAX_ERROR_CHARACTERS].encode())
            if frame.kind in _HEAVY:
                del frame  # It holds the model's file, and would until the next message comes.
                _trim_memory()
            self._sock.sendall(reply)

    def _ping(self, tag: int, _body: memoryview) -> bytes:
        return wire.encode_frame(Kind.DONE, tag, json.dumps(self._report).encode())

    def _load(self, tag: int, body: memoryview) -> bytes:
        version, description_bytes = wire.LOAD_PREFIX.unpack_from(body)
        start = wire.LOAD_PREFIX.size + description_bytes
        told = json.loads(bytes(body[wire.LOAD_PREFIX.size : start]))
        collation = collation_from_json(told["collation"]) if told["collation"] else None
        signature = Signature.from_json(told["signature"])
        session = self._open_session(body[start:], collation=collation, signature=signature, gpu=self._gpu)
        self._sessions[version] = session
        placement = session.placement
        described = {
            "provider": placement.provider,
            "nodes": placement.nodes,
            "cpu_nodes": placement.cpu_nodes,
            "cpu_operators": placement.name_cpu_operators(_MAX_TOLD_OPERATORS),
            "step_costs": session.step_costs,
            "joins": session.joins,
        }
        return wire.encode_frame(Kind.DONE, tag, json.dumps(described).encode())

    def _unload(self, tag: int, body: memoryview) -> bytes:
        (version,) = wire.RUN_PREFIX.unpack_from(body)
        self._sessions.pop(version, None)
        return wire.encode_frame(Kind.DONE, tag, b"{}")

    def _run(self, tag: int, body: memoryview) -> bytes:
        (version,) = wire.RUN_PREFIX.unpack_from(body)
        session = self._find_session(version)
        arrays = decode_arrays(body[wire.RUN_PREFIX.size :])
        started = time.perf_counter()
        output = session.run(arrays["ids"], arrays["lengths"])
        ran_us = int((time.perf_counter() - started) * 1e6)
        try:
            encoded = encode_arrays({"output": output})
        except TypeError as error:
            raise ModelFailed(str(error)) from error
        return wire.encode_frame(Kind.RESULT, tag, wire.RESULT_PREFIX.pack(ran_us), encoded)

    def _run_tensors(self, tag: int, body: memoryview) -> bytes:
        version, outputs, calls = wire.decode_tensor_run(body)
        session = self._find_session(version)
        started = time.perf_counter()
        answers = session.run_tensors(calls, outputs)
        ran_us = int((time.perf_counter() - started) * 1e6)
        if answers is None:
            return wire.encode_frame(Kind.INSEPARABLE, tag)
        try:
            encoded = wire.encode_tensor_result(ran_us, answers)
        except TypeError as error:
            raise ModelFailed(str(error)) from error
        if len(encoded) > MAX_REPLY_BYTES:
            msg = f"outputs of {len(encoded)} bytes"
            raise ModelFailed(msg)
        return wire.encode_frame(Kind.RESULT_TENSORS, tag, encoded)

    def _find_session(self, version: int) -> Any:
        session = self._sessions.get(version)
        if session is None:
            msg = "this worker has not loaded the version"
            raise ModelLoadFailed(msg)
        return session


def _trim_memory() -> None:
    """Give free memory back to the system, where the C library can (glibc)."""
    if trim := getattr(_libc, "malloc_trim", None):
        trim(0)


if __name__ == "__main__":
    main(sys.argv[1:])
