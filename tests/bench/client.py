"""A load generator for machines without wrk: keep-alive connections, one call at a time on each.

python -m tests.bench.client PORT CONNECTIONS SECONDS BODIES_FILE PATH, with the key on standard input.
"""

import asyncio
import json
import sys
import time
from itertools import cycle
from pathlib import Path

_latencies: list[float] = []
_refused = 0


async def call_until(end: float, port: int, requests: "cycle[bytes]") -> None:
    """Send one request after the other over one connection until the time is up."""
    global _refused  # noqa: PLW0603 (a program of one page)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < end:
        began = time.perf_counter()
        writer.write(next(requests))
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        _latencies.append(time.perf_counter() - began)
        _refused += not head.startswith(b"HTTP/1.1 200")
    writer.close()


async def main(port: int, connections: int, seconds: float, lines: list[bytes], path: str) -> None:
    """Run the load and print one JSON line."""
    key = sys.stdin.readline().strip()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    requests = cycle([head.encode() + b"Content-Length: %d\r\n\r\n" % len(line) + line for line in lines])
    began = time.perf_counter()
    await asyncio.gather(*(call_until(began + seconds, port, requests) for _ in range(connections)))
    took, ordered = time.perf_counter() - began, sorted(_latencies)
    ranks = {f"p{percent}_ms": 1e3 * ordered[len(ordered) * percent // 100] for percent in (50, 99)}
    print(json.dumps({"answers": len(ordered), "seconds": took, **ranks, "refused": _refused, "broken": 0}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]).read_bytes().splitlines(), sys.argv[5]))
