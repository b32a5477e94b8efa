"""Ids: UUIDv7 inside, a prefix and base62 outside.

Source: RFC 9562, section 5.7 (UUIDv7) and section 6.2, method 3 (sub-millisecond fraction).
"""

import os
import threading
import time
from typing import Final
from uuid import UUID

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]  # Halves the divisions.
_DIGITS: Final = {character: value for value, character in enumerate(_ALPHABET)}
_LENGTH: Final = 22  # 62**22 > 2**128.
_HALF: Final = 62**12  # Six pairs below it, five above.

_VERSION_7: Final = 0x7 << 76
_VARIANT: Final = 0b10 << 62
_RANDOM_BITS: Final = (1 << 62) - 1

# Random bytes are fetched from the kernel for many ids at once: a system call each would cost
# 2 us and, worse, hand the interpreter to whichever thread waits for it.
_POOL_BYTES: Final = 8 * 512

_lock = threading.Lock()
_last_tick = 0
_pool = b""
_used = 0


def uuid7() -> UUID:
    """Return a new UUIDv7, greater than every one that this process made before.

    The first 60 bits are time in steps of 244 ns; a clock that stands still or steps back is
    counted on from. The last 62 bits are random, so ids cannot be guessed from each other.
    """
    global _last_tick, _pool, _used  # noqa: PLW0603 (one clock and one pool per process)
    now_ns = time.time_ns()
    tick = (now_ns // 1_000_000 << 12) | ((now_ns % 1_000_000) * 4096 // 1_000_000)
    with _lock:
        if tick <= _last_tick:
            tick = _last_tick + 1
        _last_tick = tick
        if _used >= len(_pool):
            _pool, _used = os.urandom(_POOL_BYTES), 0
        random = int.from_bytes(_pool[_used : _used + 8], "big") & _RANDOM_BITS
        _used += 8
    return UUID(int=(tick >> 12) << 80 | _VERSION_7 | (tick & 0xFFF) << 64 | _VARIANT | random)


def _forget_pool() -> None:
    """Drop the pool in a forked child: it must not give out its parent's random bytes.

    The lock as well: another thread of the parent may have held it, and is not there to let go.
    """
    global _lock, _pool, _used
    _lock, _pool, _used = threading.Lock(), b"", 0


os.register_at_fork(after_in_child=_forget_pool)


def public_id(prefix: str, value: UUID) -> str:
    """Return an id as the outside sees it: `req_` and 22 characters of base62. Sorts as the UUID does."""
    # Two halves first: the divisions of each are of small numbers then.
    upper, lower = divmod(value.int, _HALF)
    pairs = _PAIRS
    upper, a = divmod(upper, 3844)
    upper, b = divmod(upper, 3844)
    upper, c = divmod(upper, 3844)
    e, d = divmod(upper, 3844)
    lower, f = divmod(lower, 3844)
    lower, g = divmod(lower, 3844)
    lower, h = divmod(lower, 3844)
    lower, i = divmod(lower, 3844)
    k, j = divmod(lower, 3844)
    return f"{prefix}_{pairs[e]}{pairs[d]}{pairs[c]}{pairs[b]}{pairs[a]}{pairs[k]}{pairs[j]}{pairs[i]}{pairs[h]}{pairs[g]}{pairs[f]}"


def parse_public_id(prefix: str, text: str) -> UUID | None:
    """Return the UUID inside a public id, or None for anything that `public_id` does not make."""
    head, separator, tail = text.partition("_")
    if head != prefix or not separator or len(tail) != _LENGTH:
        return None
    number = 0
    for character in tail:
        digit = _DIGITS.get(character)
        if digit is None:
            return None
        number = number * 62 + digit
    return UUID(int=number) if number < 1 << 128 else None
