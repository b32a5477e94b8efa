import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marketplace.supervisor import Output, open_listener, probe_address

# A gateway that answers everything with 200, and says so when it starts and stops.
GATEWAY = """
import os, signal, socket, sys
def stop(*_):
    print("gateway stops", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
print("gateway", os.getpid(), flush=True)
listener = socket.socket(fileno=int(sys.argv[1]))
while True:
    connection, _ = listener.accept()
    connection.recv(4096)
    connection.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    connection.close()
"""
HELPER = """
import os, signal, time
def stop(*_):
    print("helper stops", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
print("helper", os.getpid(), flush=True)
while True: time.sleep(60)
"""
DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("helper", os.getpid(), flush=True)
while True: time.sleep(60)
"""
SUPERVISOR = """
import os, sys
from marketplace import supervisor
supervisor.GRACE_S = float(sys.argv[3])
listener = supervisor.open_listener("127.0.0.1", 0, backlog=16)
print("port", listener.getsockname()[1], flush=True)
def program(name, code):
    fd = listener.fileno()
    return supervisor.Program(name=name, argv=[sys.executable, "-c", code, str(fd)], environment={}, inherits_listener=name == "gateway")
programs = [program("gateway", sys.argv[1]), program("helper", sys.argv[2])]
say = lambda line: print(line, flush=True)
sys.exit(supervisor.Supervisor(programs, listener=listener, say=say, on_ready=lambda seconds: say("ready"), as_json=sys.argv[4:] == ["json"]).run())
"""


class Site:
    """A supervisor in a process of its own, over two small programs."""

    def __init__(self, *, gateway: str = GATEWAY, helper: str = HELPER, grace_s: float = 20, as_json: bool = False) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, gateway, helper, str(grace_s), *(["json"] if as_json else [])],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout
        self.output = self.process.stdout
        self.seen: list[str] = []
        self.unasked: list[str] = []

    def wait_for(self, pattern: str) -> str:
        """Return the last group of the first line that matches and was not asked for before, or the match."""
        for line in itertools.chain(list(self.unasked), self._read_on()):
            if match := re.search(pattern, line):
                self.unasked.remove(line)
                return match.group(match.lastindex or 0)
        raise AssertionError("\n".join(["it ended without " + pattern, *self.seen]))

    def _read_on(self) -> Iterator[str]:
        for line in self.output:
            self.seen.append(line.rstrip())
            self.unasked.append(line.rstrip())
            yield line.rstrip()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the supervisor and return its exit status."""
        self.process.send_signal(number)
        self.seen += self.output.read().splitlines()
        return self.process.wait(timeout=30)


@pytest.fixture
def start() -> Iterator[Callable[..., Site]]:
    started: list[Site] = []

    def start(**arguments: Any) -> Site:
        started.append(Site(**arguments))
        return started[-1]

    yield start
    for site in started:
        with site.process:  # Closes its output, and waits.
            site.process.kill()


@pytest.fixture
def site(start: Callable[..., Site]) -> Site:
    return start()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int, *, timeout_s: float = 10) -> bool:
    deadline = time.monotonic() + timeout_s
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_gateway_first_and_leaves_no_process(site: Site, number: int) -> None:
    pids = [int(site.wait_for(rf"\[{name}\] {name} (\d+)")) for name in ("gateway", "helper")]
    site.wait_for("^ready$")

    status = site.stop(number)

    assert status == 0
    assert site.seen.index("[gateway] gateway stops") < site.seen.index("[helper] helper stops")
    assert not any(is_alive(pid) for pid in pids)


def test_a_program_that_is_killed_is_started_again_and_callers_wait_for_it(site: Site) -> None:
    port = int(site.wait_for(r"port (\d+)"))
    first = int(site.wait_for(r"\[gateway\] gateway (\d+)"))
    site.wait_for("^ready$")

    os.kill(first, signal.SIGKILL)
    wait_until_gone(first)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
        caller.send(b"GET / HTTP/1.1\r\n\r\n")
        answer = caller.recv(100)

    assert answer.startswith(b"HTTP/1.1 200")
    assert "SIGKILL" in site.wait_for(r"The gateway ended \((.*)\)")
    assert int(site.wait_for(r"\[gateway\] gateway (\d+)")) != first


def test_a_gateway_that_cannot_start_ends_everything_with_its_reason_shown(start: Callable[..., Site]) -> None:
    site = start(gateway="import sys; sys.exit('PORT is wrong')")

    status = site.process.wait(timeout=20)
    output = site.output.read()

    assert status == 1
    assert "[gateway] PORT is wrong" in output
    assert "could not start" in output


def test_a_program_that_does_not_stop_in_time_is_killed(start: Callable[..., Site]) -> None:
    site = start(helper=DEAF, grace_s=0.5)
    pid = int(site.wait_for(r"\[helper\] helper (\d+)"))

    status = site.stop()

    assert status == 0
    assert "The helper did not stop in time and is killed." in site.seen
    assert not is_alive(pid)


def test_asking_again_stops_at_once(start: Callable[..., Site]) -> None:
    site = start(helper=DEAF)
    pid = int(site.wait_for(r"\[helper\] helper (\d+)"))
    site.wait_for("^ready$")

    site.process.send_signal(signal.SIGINT)
    site.process.send_signal(signal.SIGINT)  # Passed on by make: the same wish, not a second one.
    time.sleep(1.5)
    assert site.process.poll() is None
    began = time.monotonic()
    site.stop(signal.SIGINT)

    assert time.monotonic() - began < 5
    assert not is_alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_programs_end_when_the_supervisor_is_killed(site: Site) -> None:
    pids = [int(site.wait_for(rf"\[{name}\] {name} (\d+)")) for name in ("gateway", "helper")]

    site.process.kill()
    site.process.wait()

    assert all(wait_until_gone(pid) for pid in pids)


def test_a_taken_port_is_refused() -> None:
    with open_listener("127.0.0.1", 0, backlog=1) as first, pytest.raises(OSError, match="in use"):
        open_listener("127.0.0.1", first.getsockname()[1], backlog=1)


def test_a_wildcard_listener_is_probed_on_loopback() -> None:
    with open_listener("0.0.0.0", 0, backlog=1) as listener:
        assert probe_address(listener) == ("127.0.0.1", listener.getsockname()[1])


def test_connections_do_not_hold_a_reply_s_body_back_for_an_acknowledgement() -> None:
    with open_listener("127.0.0.1", 0, backlog=1) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_programs_lines_of_json_are_passed_on_as_they_are(start: Callable[..., Site]) -> None:
    talker = "import time; print('{\"message\": \"mine\"}', flush=True); print('plain', flush=True); time.sleep(60)"

    site = start(helper=talker, as_json=True)

    assert site.wait_for("mine") == "mine"
    assert '{"message": "mine"}' in site.seen
    assert site.wait_for("plain") == "plain"
    assert "[helper] plain" in site.seen


def test_output_that_cannot_be_written_is_counted_and_ends_nothing(tmp_path: Path) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    say = Output(fd, as_json=False)
    say("one")
    say("two")
    with (tmp_path / "log").open("wb") as file:
        os.dup2(file.fileno(), fd)  # The disk has room again.
    say("three")
    say("four")
    os.close(fd)

    assert (tmp_path / "log").read_text() == "2 lines of output could not be written.\nthree\nfour\n"
