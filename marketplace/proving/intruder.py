"""A process that enters the sandbox as a model's does, tries what a hostile model would, and tells how each attempt ended."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Final

from marketplace.proving.findings import Untried, require

_ROOT: Final = Path(__file__).resolve().parents[2]
# Tries what a hostile model would, and tells over the socket how each attempt ended.
_PROGRAM: Final = textwrap.dedent("""
    import ctypes, json, mmap, os, resource, signal, socket, sys, threading
    from dataclasses import asdict
    import numpy
    from inference import sandbox

    fd, uid, open_file, cuda = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "cuda"
    scratch = sys.argv[6]
    library = next(name for name in os.listdir(numpy.__file__.replace("__init__.py", "_core")) if ".so" in name)
    sandbox.detach(parent_pid=os.getppid())
    if uid:
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    sock = socket.socket(fileno=fd)
    report = sandbox.enter(keep_fd=fd, index=3, memory_bytes=2**30, cuda=cuda)

    def attempt(action):
        try:
            action()
        except Exception as error:
            return type(error).__name__
        return "done"

    def connect():
        socket.socket().connect(("127.0.0.1", int(sys.argv[5])))

    outcome = {
        "report": asdict(report),
        "read a file": attempt(lambda: open("/etc/passwd").read()),
        "read a relative file": attempt(lambda: open("etc/passwd").read()),
        "read a file above": attempt(lambda: open("../etc/passwd").read()),
        "read a library": attempt(lambda: open(numpy.__file__.replace("__init__.py", "_core/") + library, "rb").read(4)),
        "read a system file": attempt(lambda: open("/proc/self/status").read()),
        "open a device": attempt(lambda: open("/dev/zero", "r+b", buffering=0).read(1)),
        "open the disk's folder": attempt(lambda: os.listdir("/dev")),
        "list the root": attempt(lambda: os.listdir("/etc")),
        "write a file": attempt(lambda: open(scratch + "/left-behind", "w").write("x")),
        "write a file here": attempt(lambda: open("left-behind", "w").write("x")),
        "make a folder": attempt(lambda: os.mkdir(scratch + "/folder")),
        "connect": attempt(connect),
        "use an inherited descriptor": attempt(lambda: os.read(open_file, 1)),
        "start a program": attempt(lambda: os.execv("/bin/true", ["true"])),
        "start a process": attempt(lambda: os.fork() or os._exit(0)),
        "start a thread": attempt(lambda: threading.Thread(target=int).start()),
        "signal the parent": attempt(lambda: os.kill(os.getppid(), 0)),
        "map memory": attempt(lambda: mmap.mmap(-1, 2**31)),
        "environment": dict(os.environ),
        "no_new_privs": ctypes.CDLL(None).prctl(39, 0, 0, 0, 0),
        "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
        "leads its session": os.getsid(0) == os.getpid(),
        "interrupt": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "computes": float(numpy.ones(3).sum()),
    }
    sock.sendall(json.dumps(outcome).encode())
""")


def enter_sandbox(scratch: Path, *, uid: int = 0, device: str = "cpu") -> dict[str, Any]:
    """Run the program in a sandbox, as another user first where `uid` says so; return what it could do.

    Without the sandbox, anyone could write to the scratch folder: it must be empty afterwards.
    """
    scratch.chmod(0o777)
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.create_server(("127.0.0.1", 0)) as server, Path(__file__).open() as open_file:
        fds = (theirs.fileno(), open_file.fileno())
        with subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(fds[0]), str(uid), str(fds[1]), device, str(server.getsockname()[1]), str(scratch)],
            pass_fds=fds,
            cwd=_ROOT,
            env={
                "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]),
                "SECRET": "x",
                "CUDA_VISIBLE_DEVICES": "0",
                "OPENBLAS_NUM_THREADS": "1",
            },
        ) as process:
            theirs.close()
            with ours.makefile() as replies:
                text = replies.read()
            status = process.wait(30)
    if status:
        message = f"The process that was to enter the sandbox ended with {status}."
        raise Untried(message)
    left = sorted(path.name for path in scratch.iterdir())
    require(not left, f"it left files behind: {', '.join(left)}")
    outcome: dict[str, Any] = json.loads(text)
    return outcome
