"""What each organization's calls took, by version, since this gateway process started: Triton's statistics.

Counted in memory, beside the line: nothing is read or written for it, and nobody sees another's.
Source: Triton's statistics extension.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from marketplace.gateway.cache import HIT, MISS
from marketplace.gateway.exchange import Exchange

# Pairs of organization and version that are remembered, 2 KB each; the one that began first is dropped.
_MAX_TALLIES: Final = 20_000
# Sizes of batches that one tally tells apart; larger ones are counted with the largest it knows.
_MAX_BATCH_SIZES: Final = 256
# The line's stages as Triton's parts of a call: what comes before the queue, the run, what comes after.
_PARTS: Final[Mapping[bytes, int]] = {b"limit": 0, b"infer": 1, b"settle": 2}
_NAMES: Final = ("compute_input", "compute_infer", "compute_output")


class Tally:
    """One organization's calls of one version. Times are in seconds."""

    __slots__ = ("batches", "failed", "failed_s", "last_ms", "lookups", "parts_s", "queue_s", "ran", "rows", "succeeded", "succeeded_s")

    def __init__(self) -> None:
        self.succeeded = self.failed = self.rows = self.last_ms = 0
        self.succeeded_s = self.failed_s = self.queue_s = 0.0
        self.ran = 0
        self.lookups: dict[bytes, list[float]] = {HIT: [0, 0.0], MISS: [0, 0.0]}
        self.parts_s = [0.0, 0.0, 0.0]
        self.batches: dict[int, list[float]] = {}  # Rows that ran together -> runs, then the three parts.


class CallStatistics:
    """The tallies of this process."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], Tally] = {}

    def answered(self, exchange: Exchange, *, rows: int, batch_rows: int) -> None:
        """Count a settled call.

        Args:
            exchange: With its caller, version and all stages.
            rows: Of the call.
            batch_rows: That ran together, other callers' included.
        """
        tally = self._tally(exchange)
        if tally is None:
            return
        tally.succeeded += 1
        tally.succeeded_s += exchange.elapsed_us() / 1e6
        tally.rows += rows
        tally.last_ms = int(time.time() * 1000)
        if exchange.cache is not None:
            tally.lookups[exchange.cache][0] += 1
            tally.lookups[exchange.cache][1] += exchange.elapsed_us() / 1e6
        if exchange.cache == HIT:  # Nothing ran.
            return
        tally.ran += 1
        if len(tally.batches) >= _MAX_BATCH_SIZES and batch_rows not in tally.batches:
            batch_rows = max(tally.batches)
        batch = tally.batches.setdefault(batch_rows, [0, 0.0, 0.0, 0.0])
        batch[0] += 1
        for name, took in exchange.stages:
            part = _PARTS.get(name)
            if part is not None:
                tally.parts_s[part] += took
                batch[part + 1] += took
            elif name == b"queue":
                tally.queue_s += took

    def failed(self, exchange: Exchange) -> None:
        """Count a call that was refused, or not answered, after it had found its version."""
        tally = self._tally(exchange)
        if tally is not None:
            tally.failed += 1
            tally.failed_s += exchange.elapsed_us() / 1e6

    def _tally(self, exchange: Exchange) -> Tally | None:
        if exchange.caller is None or exchange.version is None:
            return None
        key = (exchange.caller.tenant, exchange.version.sku)
        tally = self._tallies.get(key)
        if tally is None:
            if len(self._tallies) >= _MAX_TALLIES:
                del self._tallies[next(iter(self._tallies))]
            tally = self._tallies[key] = Tally()
        return tally

    def called_skus(self, tenant: str) -> list[str]:
        """Return the versions that an organization has called, in order."""
        return sorted(sku for owner, sku in self._tallies if owner == tenant)

    def render(self, tenant: str, skus: Iterable[str]) -> dict[str, Any]:
        """Return an organization's `model_stats` of some versions; zeros where it has not called one."""
        return {"model_stats": [_render(sku, self._tallies.get((tenant, sku)) or Tally()) for sku in skus]}


def _render(sku: str, tally: Tally) -> dict[str, Any]:
    path, _, number = sku.rpartition("@")
    return {
        "name": path,
        "version": number,
        "last_inference": tally.last_ms,
        "inference_count": tally.rows,
        "execution_count": tally.ran,
        "inference_stats": {
            "success": _duration(tally.succeeded, tally.succeeded_s),
            "fail": _duration(tally.failed, tally.failed_s),
            "queue": _duration(tally.ran, tally.queue_s),
            **{name: _duration(tally.ran, took) for name, took in zip(_NAMES, tally.parts_s, strict=True)},
            "cache_hit": _looked_up(tally, HIT),
            "cache_miss": _looked_up(tally, MISS),
        },
        "batch_stats": [
            {"batch_size": size, **{name: _duration(int(runs), took) for name, took in zip(_NAMES, parts, strict=True)}}
            for size, (runs, *parts) in sorted(tally.batches.items())
        ],
        "memory_usage": [],
    }


def _looked_up(tally: Tally, outcome: bytes) -> dict[str, int]:
    count, seconds = tally.lookups[outcome]
    return _duration(int(count), seconds)


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": int(seconds * 1e9)}
