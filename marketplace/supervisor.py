"""Keep the site's programs running under one process: start, watch, restart, stop, leave nothing behind.

Standard library only (and `logs`, which is) and one thread: signals, the programs' output and the health probe all
wake one selector. `manage.py serve` becomes this module (`python -m marketplace.supervisor`) once
it has set up: without Django it takes 7 MB instead of 127.
"""

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from tempfile import TemporaryFile
from typing import Any, Final, NoReturn

from marketplace.logs import render_line

# A program that ended is started again after this long; doubled for each time in a row.
_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 30.0
# A run of this length was a success, as is a gateway that got ready: the next restart waits as the first one did.
_STEADY_S: Final = 10.0
# From SIGTERM to SIGKILL. The gateway bounds its own draining at 20 s (asgi).
GRACE_S: Final = 30.0
_PROBE_INTERVAL_S: Final = 0.1
_SAME_SIGNAL_S: Final = 1.0
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program to keep running."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]  # In addition to ours.
    inherits_listener: bool = False  # As the file descriptor of the same number.


class _Running:
    """A program with the process that runs it now, if any."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.start_at = 0.0  # When it is due again, by the monotonic clock.
        self.delay_s = _FIRST_DELAY_S
        self.unfinished = b""  # Output since the last line's end.


class Supervisor:
    """Runs programs until a signal says stop: the gateway, and others that help it.

    The first one is the gateway: it answers /readyz on the listener, and is stopped first.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        listener: socket.socket,
        say: Callable[[str], Any],
        on_ready: Callable[[float], Any],
        as_json: bool = False,
    ) -> None:
        self._all = [_Running(program) for program in programs]
        self._listener = listener
        self._say = say
        self._on_ready = on_ready
        self._as_json = as_json
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._alarm = socket.socketpair()
        self._began = time.monotonic()
        self._probe: socket.socket | None = None
        self._probe_at = 0.0
        self._ready = self._was_ready = False
        self._stop_asked_at: float | None = None
        self._impatient = False  # Somebody asked again, to stop at once.

    def run(self) -> int:
        """Run everything until SIGINT, SIGTERM or SIGHUP; return the exit status. No process is left."""
        with self._signals():
            try:
                for running in self._all:
                    self._start(running)
                while self._stop_asked_at is None:
                    self._turn()
                    if self._has_failed_to_start():
                        self._say("The gateway could not start; its output above says why.")
                        return 1
                self._say("Stopping: calls in flight may end; once more stops at once.")
                return 0
            finally:
                self._stop_all()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Have signals wake the selector for as long as the block runs."""
        self._wakeup.setblocking(False)
        self._alarm.setblocking(False)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._read_signals)
        wakeup = signal.set_wakeup_fd(self._alarm.fileno(), warn_on_full_buffer=False)
        asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._note_stop) for number in asked}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)  # Its byte on the alarm is all we need.
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note_stop(self, _number: int, _frame: object) -> None:
        if self._stop_asked_at is None:
            self._stop_asked_at = time.monotonic()
        # `make` and `timeout` pass on what their group got already: two at once are one.
        elif time.monotonic() - self._stop_asked_at > _SAME_SIGNAL_S:
            self._impatient = True

    def _read_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(4096)

    # ------------------------------------------------------------ Processes

    def _start(self, running: _Running) -> None:
        program = running.program
        running.process = subprocess.Popen(  # noqa: S603 (our own programs, no shell)
            program.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(program.environment),
            pass_fds=[self._listener.fileno()] if program.inherits_listener else [],
            # Ctrl-C goes to the terminal's group: it must reach us alone, so that we stop them in order.
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 (there is only one thread)
        )
        running.started_at = time.monotonic()
        assert running.process.stdout is not None
        os.set_blocking(running.process.stdout.fileno(), False)
        self._selector.register(running.process.stdout, selectors.EVENT_READ, lambda: self._read_output(running))

    def _read_output(self, running: _Running) -> None:
        """Pass a program's output on, line by line, with its name before each."""
        assert running.process is not None
        assert running.process.stdout is not None
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(running.process.stdout.fileno(), 65536):
                *lines, running.unfinished = (running.unfinished + chunk).split(b"\n")
                for line in filter(bytes.strip, lines):
                    self._pass_on(running, line)
            self._close_output(running)  # The end of the output; the process follows, or has a child that holds on.

    def _pass_on(self, running: _Running, line: bytes) -> None:
        text = line.decode(errors="replace")
        self._say(text if self._as_json and text.startswith("{") else f"[{running.program.name}] {text}")

    def _close_output(self, running: _Running) -> None:
        stream = running.process.stdout if running.process else None
        if stream is None or stream.closed:
            return
        self._selector.unregister(stream)
        stream.close()
        if running.unfinished:
            self._pass_on(running, running.unfinished)
            running.unfinished = b""

    def _reap(self, running: _Running, *, restart: bool) -> None:
        """Notice that a program ended; have it started again after a while."""
        if running.process is None or running.process.poll() is None:
            return
        if running.process.stdout and not running.process.stdout.closed:
            self._read_output(running)
        self._close_output(running)
        status, ran_s = running.process.returncode, time.monotonic() - running.started_at
        _kill_group(running.process.pid)  # What it started and did not stop.
        running.process = None
        if running is self._all[0]:
            self._ready, self._began = False, time.monotonic()
        if not restart:
            return
        running.delay_s = _FIRST_DELAY_S if ran_s >= _STEADY_S else running.delay_s
        running.start_at = time.monotonic() + running.delay_s
        self._say(f"The {running.program.name} ended ({_describe(status)}) and is started again in {running.delay_s:g} s.")
        running.delay_s = min(running.delay_s * 2, _LONGEST_DELAY_S)

    def _turn(self) -> None:
        """Wait for whatever comes first, and see to it."""
        now = time.monotonic()
        due = [running.start_at for running in self._all if running.process is None]
        if not self._ready and self._probe is None:
            due.append(self._probe_at)
        timeout = max(0.0, min(due) - now) if due else None
        for key, _ in self._selector.select(timeout):
            key.data()
        for running in self._all:
            self._reap(running, restart=True)
            if self._has_failed_to_start():
                return
            if running.process is None and running.start_at <= time.monotonic() and self._stop_asked_at is None:
                self._start(running)
        if not self._ready and self._probe is None and self._probe_at <= time.monotonic():
            self._begin_probe()

    def _has_failed_to_start(self) -> bool:
        """Whether the gateway ended before it ever was ready: a mistake in the settings, not bad luck."""
        return not self._was_ready and self._all[0].process is None

    # ------------------------------------------------------------ Health

    def _begin_probe(self) -> None:
        """Ask the gateway for its health; the connection waits in the listener's queue until it serves."""
        self._probe = socket.socket(self._listener.family, socket.SOCK_STREAM)
        self._probe.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self._probe.connect(probe_address(self._listener))
        self._selector.register(self._probe, selectors.EVENT_WRITE, self._send_probe)

    def _send_probe(self) -> None:
        assert self._probe is not None
        with contextlib.suppress(OSError):
            self._probe.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        self._selector.modify(self._probe, selectors.EVENT_READ, self._read_probe)

    def _read_probe(self) -> None:
        assert self._probe is not None
        reply = b""
        with contextlib.suppress(OSError):
            reply = self._probe.recv(4096)
        self._selector.unregister(self._probe)
        self._probe.close()
        self._probe, self._probe_at = None, time.monotonic() + _PROBE_INTERVAL_S
        if reply.startswith(b"HTTP/1.1 200"):
            self._note_ready(time.monotonic() - self._began)

    def _note_ready(self, seconds: float) -> None:
        if self._was_ready:
            self._say(f"The gateway is ready again, after {seconds:.1f} s.")
        else:
            self._on_ready(seconds)
        self._ready = self._was_ready = True
        self._all[0].delay_s = _FIRST_DELAY_S

    # ------------------------------------------------------------ The end

    def _stop_all(self) -> None:
        """Stop the gateway, then all others together; what is not gone in time is killed."""
        self._listener.close()  # From now on nobody new gets into the queue.
        deadline = time.monotonic() + GRACE_S
        self._stop(self._all[:1], deadline)
        self._stop(self._all[1:], deadline)
        for running in self._all:
            if running.process:
                self._say(f"The {running.program.name} did not stop in time and is killed.")
                _kill_group(running.process.pid)
                running.process.wait()
                self._reap(running, restart=False)
        self._selector.close()
        self._wakeup.close()
        self._alarm.close()

    def _stop(self, some: Sequence[_Running], deadline: float) -> None:
        """Ask programs to end, and pass on what they say until they have."""
        for running in some:
            if running.process:
                running.process.terminate()
        while any(running.process for running in some) and time.monotonic() < deadline and not self._impatient:
            for key, _ in self._selector.select(min(0.5, max(0.0, deadline - time.monotonic()))):
                key.data()
            for running in some:
                self._reap(running, restart=False)


def open_listener(host: str, port: int, *, backlog: int) -> socket.socket:
    """Return a listening socket on an address.

    The supervisor holds it, not the gateway: while a gateway that died is started again, callers
    wait in the queue instead of being refused.

    Raises:
        OSError: the address is taken or is not this machine's.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by every connection. uvicorn takes a socket handed over by number for a Unix one and
        # leaves this off: a reply's body then waits up to 40 ms for the client to acknowledge its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def probe_address(listener: socket.socket) -> tuple[str, int]:
    """Return the address under which this machine reaches a listener; a wildcard's is loopback."""
    host, port = listener.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 (compared, not bound)


def _die_with_parent() -> None:
    """Have the kernel end this program with SIGTERM when the supervisor dies, however it dies."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _describe(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"


def become_supervisor(
    programs: Sequence[Program], *, listener: socket.socket, lock: int, ready_lines: Sequence[str], as_json: bool
) -> NoReturn:
    """Replace this process by a supervisor: the same number, nothing else in its memory.

    Args:
        programs: What to run; see `Supervisor`.
        listener: The listening socket; the supervisor inherits it.
        lock: A file descriptor that the supervisor keeps open for as long as it runs.
        ready_lines: Printed once the site serves; `{seconds}` stands for how long that took.
        as_json: Whether each line is a JSON object; what a program says otherwise becomes the message of one.
    """
    # Through a file without a name: the lines may hold a key, and command lines are everybody's to read.
    with TemporaryFile() as plan:
        told = {"programs": [asdict(program) for program in programs], "ready_lines": list(ready_lines), "as_json": as_json}
        plan.write(json.dumps(told).encode())
        plan.flush()
        os.lseek(plan.fileno(), 0, os.SEEK_SET)
        for fd in (plan.fileno(), listener.fileno(), lock):
            os.set_inheritable(fd, True)
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(  # noqa: S606 (our own interpreter, no shell)
            sys.executable, [sys.executable, "-m", "marketplace.supervisor", str(plan.fileno()), str(listener.fileno()), str(lock)]
        )


class Output:
    """Where lines go: a terminal, a pipe, a file. A full disk or a terminal that is gone must not end the site."""

    def __init__(self, fd: int, *, as_json: bool) -> None:
        self._fd, self._as_json = fd, as_json
        self._lost = 0

    def __call__(self, line: str) -> None:
        """Write a line; what could not be written is counted, and told when something can be again."""
        lines = [f"{self._lost} lines of output could not be written.", line] if self._lost else [line]
        rendered = [
            render_line(text, logger="farebox.supervisor") if self._as_json and not text.startswith("{") else text for text in lines
        ]
        try:
            os.write(self._fd, "".join(f"{text}\n" for text in rendered).encode(errors="replace"))
        except OSError:
            self._lost += 1
        else:
            self._lost = 0


def main(plan_fd: int, listener_fd: int, lock_fd: int) -> int:
    """Run the plan that `become_supervisor` left; return the exit status."""
    with open(plan_fd, "rb") as file:
        plan = json.load(file)
    as_json = bool(plan["as_json"])
    # Programs get the listener by being named for it, and the lock never: it must end with us.
    os.set_inheritable(listener_fd, False)
    os.set_inheritable(lock_fd, False)

    say = Output(sys.stdout.fileno(), as_json=as_json)

    def greet(seconds: float) -> None:
        for line in plan["ready_lines"]:
            say(line.replace("{seconds}", f"{seconds:.1f}"))

    programs = [Program(**program) for program in plan["programs"]]
    return Supervisor(programs, listener=socket.socket(fileno=listener_fd), say=say, on_ready=greet, as_json=as_json).run()


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:4])))
