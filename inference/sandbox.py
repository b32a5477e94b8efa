"""What a worker does to itself before it loads anyone's model.

Two steps. `detach` comes first, before the slow imports: from then on the worker cannot outlive the
gateway. `enter` comes after them, and from then on the process reaches no file, no network and
no other process: the model arrives as bytes over the one socket that stays open.
"""

import ctypes
import os
import resource
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inference import landlock
from inference.devices import VISIBLE

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWNET: Final = 0x40000000
_CLONE_NEWIPC: Final = 0x08000000
# The range that systemd keeps for dynamic users, so no account of the machine is met; one uid per worker.
_FIRST_UID: Final = 61_184
# The socket, the three standard streams, and some room for ONNX Runtime.
_MAX_DESCRIPTORS: Final = 32
# CUDA opens each of its device files many times.
_MAX_DESCRIPTORS_CUDA: Final = 1_024
# What a driver and its libraries read beside their own folders, of which `_cuda_folders` tells.
_CUDA_READS: Final = ("/proc", "/sys", "/etc/ld.so.cache", "/etc/nvidia", "/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local")
_CUDA_OPENS: Final = ("/dev/null", "/dev/zero", "/dev/urandom")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxReport:
    """What was applied. False and None say that the kernel or our own rights, or a GPU's needs, did not allow it."""

    landlock_abi: int | None
    own_uid: int | None
    empty_root: bool
    own_network: bool
    threads: int  # Landlock binds the calling thread and those it starts: it must be the only one.
    limits: Mapping[str, int]


def detach(*, parent_pid: int) -> None:
    """Leave the terminal's process group and tie this process's life to its parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the gateway drains us.
    if os.getsid(0) != os.getpid():
        os.setsid()
    _die_with_parent(parent_pid)


def enter(*, keep_fd: int, index: int, memory_bytes: int, cuda: bool) -> SandboxReport:
    """Give up all that running a model does not need, and return what could be given up.

    Args:
        keep_fd: The socket to the gateway; every other descriptor is closed.
        index: The worker's number, which chooses its uid.
        memory_bytes: Most address space. Not applied with CUDA, which reserves terabytes of it.
        cuda: Whether the GPU's libraries, already loaded, and its devices must stay reachable.
    """
    parent_pid = os.getppid()
    threads = len(list(Path("/proc/self/task").iterdir()))
    as_root = os.geteuid() == 0
    readable, opened = (_cuda_folders(), _cuda_devices()) if cuda else ([], [])
    _keep_only(keep_fd)
    _clear_environment(keep=(VISIBLE,) if cuda else ())
    own_network = as_root and _unshare(_CLONE_NEWNET | _CLONE_NEWIPC)
    empty_root = _enter_empty_folder(as_root=as_root and not cuda)  # A driver wants its device files and /proc.
    own_uid = _take_uid(_FIRST_UID + index, reaching=[*readable, *opened]) if as_root else None
    limits = _limit_resources(memory_bytes=memory_bytes, cuda=cuda)
    _die_with_parent(parent_pid)  # The change of uid cleared it.
    _prctl(_PR_SET_DUMPABLE, 0)  # Nobody of our uid may trace us or read our memory.
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    abi = landlock.find_abi()
    if abi is not None:
        landlock.deny_all(abi=abi, readable=readable, devices=opened)
    return SandboxReport(
        landlock_abi=abi,
        own_uid=own_uid,
        empty_root=empty_root,
        own_network=own_network,
        threads=threads,
        limits=limits,
    )


def _die_with_parent(parent_pid: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # It died before the line above, so no signal will come.
        os._exit(1)


def _keep_only(keep_fd: int) -> None:
    """Close every descriptor but the socket; the standard streams read and write nothing."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.closerange(3, keep_fd)
    os.closerange(keep_fd + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _enter_empty_folder(*, as_root: bool) -> bool:
    """Make a deleted folder the working directory and, as root, the root directory too.

    ONNX Runtime looks for external data beside the working directory: there is nothing in this
    one, and nothing can be created in it. Returns whether it is the root directory.
    """
    folder = Path(tempfile.mkdtemp(prefix="farebox-worker-"))
    os.chdir(folder)
    folder.rmdir()
    if not as_root:
        return False
    try:
        os.chroot(".")
    except OSError:  # No CAP_SYS_CHROOT in this container; Landlock still stands.
        return False
    return True


def _clear_environment(*, keep: Sequence[str]) -> None:
    kept = {name: os.environ[name] for name in keep if name in os.environ}
    os.environ.clear()
    os.environ.update(kept)


def _take_uid(uid: int, *, reaching: Sequence[Path]) -> int | None:
    """Become a user that owns nothing.

    Returns None where this namespace has no such user, or it would not reach what must stay in reach:
    the device files of a machine that keeps its GPU for a group, libraries in somebody's home.
    """
    try:
        os.setgroups([])
        if not _would_reach(uid, reaching):
            return None
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError:
        return None
    return uid


def _would_reach(uid: int, paths: Sequence[Path]) -> bool:
    """Whether a user could read these files and folders; root tries it as that user, and comes back."""
    gid = os.getegid()
    os.setegid(uid)
    os.seteuid(uid)
    try:
        return all(os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK, effective_ids=True) for path in paths)
    finally:
        os.seteuid(0)
        os.setegid(gid)


def _limit_resources(*, memory_bytes: int, cuda: bool) -> dict[str, int]:
    limits = {"core": 0, "fsize": 0, "nofile": _MAX_DESCRIPTORS_CUDA if cuda else _MAX_DESCRIPTORS}
    if not cuda:  # CUDA starts threads and reserves terabytes of addresses.
        limits |= {"nproc": 0, "as": memory_bytes}
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name.upper()}")
        _, hard = resource.getrlimit(number)
        capped = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (capped, capped))
        limits[name] = capped
    return limits


def _cuda_folders() -> list[Path]:
    """The folders that CUDA and cuDNN load their parts from, some only when a model first needs them.

    Those of every library that is loaded now, wherever a site has put them, and the system's.
    """
    mapped = {Path(line.split(maxsplit=5)[5]).parent for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line}
    return sorted(path for path in mapped | set(map(Path, _CUDA_READS)) if path.exists())


def _cuda_devices() -> list[Path]:
    """The driver's device files, and the few that any program may open."""
    return [*sorted(Path("/dev").glob("nvidia*")), *map(Path, _CUDA_OPENS)]


_libc: Final = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def _unshare(flags: int) -> bool:
    """Whether the kernel gave us namespaces of our own; containers often refuse."""
    return bool(_libc.unshare(ctypes.c_int(flags)) == 0)
