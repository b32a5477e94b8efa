"""Landlock by ctypes: after `deny_all`, this thread and its children open no file and no TCP connection.

Source: Linux Documentation/userspace-api/landlock.rst; numbers from include/uapi/linux/landlock.h.
"""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# The same numbers on x86-64 and arm64 (all calls since 424 share them).
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1

_LIST: Final = 1 << 3  # Of folders alone: the kernel refuses it on a file.
_READ: Final = 1 << 0 | 1 << 2 | _LIST  # Execute (mapping libraries), read files, list directories.
_WRITE_FILE: Final = 1 << 1
_IOCTL_DEV: Final = 1 << 15  # A GPU is driven through its device files.


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def find_abi() -> int | None:
    """Return the kernel's Landlock ABI, or None where it has none or keeps it off."""
    abi = _syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    return abi if abi >= 1 else None


def deny_all(*, abi: int, readable: Sequence[Path] = (), devices: Sequence[Path] = ()) -> None:
    """Take every file and TCP right that this kernel's Landlock knows from the calling thread, for good.

    `no_new_privs` must be set. Descriptors that are already open go on working.

    Args:
        abi: What `find_abi` returned.
        readable: Files and folders that stay readable (the CUDA libraries, which load lazily).
        devices: Device files, or folders of them, that stay usable.

    Raises:
        OSError: the kernel refused; nothing was taken.
    """
    handled = _file_rights(abi)
    # TCP bind and connect since ABI 4; signals and abstract sockets outside the sandbox since ABI 6.
    attr = _RulesetAttr(handled, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _checked(_syscall(_CREATE_RULESET, ctypes.byref(attr), size, 0))
    try:
        for path in readable:
            _allow(ruleset, path, _READ & handled)
        for path in devices:
            _allow(ruleset, path, (_READ | _WRITE_FILE | _IOCTL_DEV) & handled)
        _checked(_syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _file_rights(abi: int) -> int:
    """All file rights of an ABI: 13 in the first, then refer (2), truncate (3) and device ioctl (5)."""
    return (1 << 13) - 1 | (abi >= 2) << 13 | (abi >= 3) << 14 | (abi >= 5) << 15


def _allow(ruleset: int, path: Path, allowed: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        attr = _PathBeneathAttr(allowed if path.is_dir() else allowed & ~_LIST, descriptor)
        _checked(_syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(attr), 0))
    finally:
        os.close(descriptor)


_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _syscall(number: int, *arguments: object) -> int:
    # Integers go as long: a variadic C function would else read garbage in the upper half.
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return int(_libc.syscall(ctypes.c_long(number), *converted))


def _checked(result: int) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return result
