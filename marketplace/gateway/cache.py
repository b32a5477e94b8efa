"""Answers kept in memory, for organizations that turned that on: the same input to the same artifact runs once.

Bounded in bytes and time, and never shared: an organization's id is part of every entry's name, so whose
answer it is does not depend on a hash alone. Each gateway process keeps its own; nothing is written to disk.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from inference.datatypes import BYTES, find_datatype
from inference.engine import Inferred

# An entry lives so long at the most: whoever turns the cache off or leaves has nothing here an hour later.
KEPT_S: Final = 3600.0
# What an entry costs beside its arrays: names, tuples, the dictionary's own place.
_OVERHEAD_BYTES: Final = 1024
# A `bytes` object and its place in an array.
_OBJECT_BYTES: Final = 48
HIT: Final = b"hit"
MISS: Final = b"miss"


class CacheKey(NamedTuple):
    """What an answer depends on, and whose it is."""

    tenant: str
    livemode: bool  # A test key's runs are free: they may not make live answers cheaper.
    bundle: str  # The artifact's digest, and what its pipeline feeds.
    input_hash: bytes  # SHA-256.


class _Entry(NamedTuple):
    inferred: Inferred
    size_bytes: int
    expires_at: float


class ResponseCache:
    """The answers of this process; what was used longest ago goes first."""

    def __init__(self, *, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep nothing yet.

        Args:
            max_bytes: Of all entries together, overhead included; one may have an eighth. 0 keeps nothing.
            clock: In seconds.
        """
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[CacheKey, _Entry] = OrderedDict()
        self.size_bytes = 0

    def find(self, key: CacheKey) -> Inferred | None:
        """Return the kept answer, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_at <= self._clock():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.inferred

    def keep(self, key: CacheKey, inferred: Inferred) -> None:
        """Keep an answer, if it is not too large; it took no time when it is found."""
        # Copied: an answer's arrays are parts of a whole batch's message, with other callers' rows in it.
        outputs = {name: _frozen(array) for name, array in inferred.outputs.items()}
        size = _OVERHEAD_BYTES + sum(map(_size_of, outputs.values()))
        if size > self._max_bytes // 8:
            return
        if key in self._entries:
            self._drop(key)
        kept = Inferred(outputs=outputs, queue_us=0, infer_us=0, batch_rows=0, provider=inferred.provider)
        self._entries[key] = _Entry(kept, size, self._clock() + KEPT_S)
        self.size_bytes += size
        while self.size_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def forget(self, tenant: str) -> None:
        """Drop all of an organization's answers: its settings changed."""
        for key in [key for key in self._entries if key.tenant == tenant]:
            self._drop(key)

    def _drop(self, key: CacheKey) -> None:
        self.size_bytes -= self._entries.pop(key).size_bytes


def hash_rows(rows: Iterable[npt.NDArray[Any]]) -> bytes:
    """Return the hash of a pipeline's rows."""
    return hash_tensors({str(place): row for place, row in enumerate(rows)}, ())


def hash_tensors(tensors: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str]) -> bytes:
    """Return the hash of named tensors and of the outputs wanted of them (none: all).

    Every part is preceded by its length, so that no two inputs are written alike.
    """
    hashed = hashlib.sha256()

    def add(part: bytes) -> None:
        hashed.update(len(part).to_bytes(8, "little"))
        hashed.update(part)

    for name in sorted(tensors):
        array = tensors[name]
        add(name.encode())
        add(f"{find_datatype(array)}{array.shape}".encode())
        if array.dtype == np.object_:
            for element in array.ravel().tolist():
                add(element)
        else:
            add(array.tobytes())
    add(b"outputs")
    for name in sorted(outputs):
        add(name.encode())
    return hashed.digest()


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    copy = np.array(array)
    copy.flags.writeable = False
    return copy


def _size_of(array: npt.NDArray[Any]) -> int:
    if find_datatype(array) != BYTES:
        return array.nbytes
    return sum(_OBJECT_BYTES + len(element) for element in array.ravel().tolist())
