"""`make soak`: every kind of caller at once, for minutes or hours; then who was left without an answer, and what grew.

Small and long calls, bad ones, callers who hang up and callers who dribble, against a site started for it. Ends with
status 1 if a call got no answer, a 5xx was not a documented 503 or 504, a process's memory grew, or the books differ.

python -m tests.bench.soak --minutes 10 [--callers 16] [--seed 1]
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.bench.processes import resident_mb
from tests.flows.calls import PREDICT
from tests.flows.server import ROOT, Site, start_site

WORDS: Final = (
    "a",
    "moving",
    "funny",
    "film",
    "two",
    "hours",
    "I",
    "want",
    "back",
    "the",
    "actors",
    "are",
    "better",
    "than",
    "it",
    "rains",
)
# A call that has no answer after this is unanswered: the site's own limit is 30 s.
PATIENCE_S: Final = 45.0
# Until here caches fill and allocators settle; what comes later is growth.
WARM_UP_S: Final = 60.0
SAMPLE_S: Final = 5.0
# A steady process's memory moves by some megabytes; a leak of 1 KB a call passes this within minutes.
MOST_GROWTH_MB: Final = 8.0
MOST_GROWTH: Final = 0.05
# The demo organization's five dollars last ten minutes.
GRANT = """
from billing.ledger import grant_credit
from billing.money import Nanos
from marketplace.models import Organization
grant_credit(Organization.objects.get(slug="demo").account, Nanos(10**12), kind="operator", reference="soak", by="soak")
"""
CHECK_BOOKS = "from billing.books import check_books; print([str(difference) for difference in check_books()])"


class Soak:
    """The callers, and what became of their calls."""

    def __init__(self, site: Site, *, seed: int, pause_s: float) -> None:
        self.site = site
        self.choose = random.Random(seed)
        self.pause_s = pause_s
        self.told: Counter[tuple[str, str]] = Counter()  # Kind of caller, status and code.
        self.faults: list[str] = []
        self.answered = 0  # With 200, to callers who waited.
        self.hung_up = 0  # Calls whose caller did not wait: charged or not, nobody knows here.
        self.end = 0.0

    async def run(self, seconds: float, callers: int) -> None:
        """Let everybody call until the time is up."""
        self.end = time.monotonic() + seconds
        kinds: list[tuple[str, Callable[[str], Awaitable[None]]]] = [
            ("small", self.call_small), ("small", self.call_small), ("long", self.call_long), ("bad", self.call_badly),
            ("small", self.call_small), ("hasty", self.hang_up), ("slow", self.dribble), ("deaf", self.read_slowly),
        ]  # fmt: skip
        await asyncio.gather(*(self.repeat(*kinds[index % len(kinds)]) for index in range(callers)))

    async def repeat(self, kind: str, call: Callable[[str], Awaitable[None]]) -> None:
        """Make one call after the other."""
        while time.monotonic() < self.end:
            try:
                await call(kind)
            except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
                self.faults.append(f"{kind}: no answer: {error!r}")
            await asyncio.sleep(self.pause_s * self.choose.random() * 2)

    # ------------------------------------------------------------ Kinds of callers

    async def call_small(self, kind: str) -> None:
        """One short text."""
        await self.ask(kind, self.request(self.body(rows=1, words=self.choose.randint(1, 20))))

    async def call_long(self, kind: str) -> None:
        """Many texts, or long ones."""
        rows = self.choose.choice((1, 8, 32))
        await self.ask(kind, self.request(self.body(rows=rows, words=400 // rows)))

    async def call_badly(self, kind: str) -> None:
        """Something that must be refused."""
        good = self.body(rows=1, words=3)
        await self.ask(
            kind,
            self.choose.choice((
                self.request(b"{"),
                self.request(b'{"input_data": 7}'),
                self.request(b"[" * 5_000),
                self.request(good, key="fb_sk_live_nonsense"),
                self.request(good, key=""),
                self.request(good, path="/v1/models/no/such/predict"),
                self.request(good, path="/v1/nowhere"),
                self.request(good, extra="X-Timeout-Ms: soon\r\n"),
                self.request(good, extra="X-Timeout-Ms: 1\r\n"),  # May be answered in time all the same.
            )),
        )  # fmt: skip

    async def hang_up(self, kind: str) -> None:
        """A caller who does not wait for the answer, or not even until all is sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.site.port)
        whole = self.request(self.body(rows=4, words=30))
        writer.write(whole if self.choose.random() < 0.8 else whole[: self.choose.randint(1, len(whole))])
        await asyncio.sleep(self.choose.random() * 0.03)
        self.hung_up += 1
        self.told[kind, "hung up"] += 1
        del reader
        writer.close()

    async def dribble(self, kind: str) -> None:
        """A caller whose body comes in small pieces; it may take ten seconds."""
        await self.ask(kind, self.request(self.body(rows=1, words=10)), piece_bytes=40, pause_s=self.choose.random() * 0.3)

    async def read_slowly(self, kind: str) -> None:
        """A caller who takes a while to read what came."""
        await self.ask(kind, self.request(self.body(rows=8, words=10)), deaf_s=self.choose.random() * 2)

    # ------------------------------------------------------------ One call

    def body(self, *, rows: int, words: int) -> bytes:
        """Return a body with so many texts of so many words."""
        return json.dumps({"input_data": [" ".join(self.choose.choices(WORDS, k=words)) for _ in range(rows)]}).encode()

    def request(self, body: bytes, *, key: str | None = None, path: str = PREDICT, extra: str = "") -> bytes:
        """Return a request's bytes."""
        key = self.site.key if key is None else key
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    async def ask(self, kind: str, request: bytes, *, piece_bytes: int = 0, pause_s: float = 0, deaf_s: float = 0) -> None:
        """Send one request on a connection of its own, and note the answer."""
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.site.port)
            try:
                if piece_bytes:
                    for start in range(0, len(request), piece_bytes):
                        writer.write(request[start : start + piece_bytes])
                        await asyncio.sleep(pause_s)
                else:
                    writer.write(request)
                await asyncio.sleep(deaf_s)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                self.note(kind, int(head.split(b" ", 2)[1]), await reader.readexactly(length))
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    def note(self, kind: str, status: int, body: bytes) -> None:
        """Count an answer; a 5xx must be a documented 503 or 504."""
        code = ""
        if status == 200:
            self.answered += 1
        else:
            with suppress(ValueError):
                problem = json.loads(body)
                code = str(problem["code"]) if str(problem.get("type")).endswith(f"/docs/errors/{problem.get('code')}") else ""
        self.told[kind, f"{status} {code}".strip()] += 1
        if status >= 500 and not (status in {503, 504} and code):
            self.faults.append(f"{kind}: {status} {body[:200]!r}")


async def sample(site: Site, series: dict[str, list[float]], until: float) -> None:
    """Note the memory of the site's processes every few seconds."""
    while time.monotonic() < until:
        gateway = site.gateway_pid()
        pids = {"gateway": gateway, **{f"worker {index}": pid for index, pid in enumerate(site.worker_pids())}}
        for name, pid in pids.items():
            if pid and (size := resident_mb(pid)):
                series.setdefault(f"{name} ({pid})", []).append(size)
        await asyncio.sleep(SAMPLE_S)


def find_growth(series: dict[str, list[float]]) -> list[str]:
    """Return the processes whose memory is more at the end than after the warm-up: medians of a fifth of the time each."""
    grown = []
    for name, sizes in series.items():
        steady = sizes[int(WARM_UP_S / SAMPLE_S) :]
        fifth = len(steady) // 5
        if not fifth:
            continue
        first, last = statistics.median(steady[:fifth]), statistics.median(steady[-fifth:])
        print(f"  {name:<20} {sizes[0]:7.1f} MB at first, {first:7.1f} warm, {last:7.1f} at the end")
        if last - first > max(MOST_GROWTH_MB, MOST_GROWTH * first):
            grown.append(f"{name} grew by {last - first:.1f} MB")
    return grown


def run_in_shell(site: Site, code: str) -> str:
    """Run code beside the site, on its database; return what it printed."""
    command = [sys.executable, "manage.py", "shell", "--verbosity", "0", "-c", code]
    environment = {**os.environ, "VAR_DIR": str(site.var_dir)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def check_books(site: Site, soak: Soak) -> list[str]:
    """Return what the money does not agree with: answers without a charge, charges without an answer, differences."""
    faults = []
    events = int(site.query("SELECT COUNT(*) FROM billing_usageevent")) - int(site.query("SELECT COUNT(*) FROM billing_usagerefund"))
    print(f"  {soak.answered} answered with 200, {soak.hung_up} hung up; {events} charged and not refunded")
    if not soak.answered <= events <= soak.answered + soak.hung_up:
        faults.append(f"{events} charges for {soak.answered} answers and {soak.hung_up} who hung up")
    told = run_in_shell(site, CHECK_BOOKS)
    print(f"  the books differ by {told}")
    return faults if told == "[]" else [*faults, told]


async def run_all(soak: Soak, series: dict[str, list[float]], *, seconds: float, callers: int) -> None:
    """Put the load on, and watch."""
    watch = asyncio.create_task(sample(soak.site, series, time.monotonic() + seconds))
    await soak.run(seconds, callers)
    await watch


def main() -> int:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--pause-ms", type=int, default=100, help="mean pause of each caller between calls")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} x {cpu}, Python {platform.python_version()}, load before {load}")
    print(f"{options.minutes:g} minutes, {options.callers} callers, seed {options.seed}")
    series: dict[str, list[float]] = {}
    with start_site() as site:
        run_in_shell(site, GRANT)
        soak = Soak(site, seed=options.seed, pause_s=options.pause_ms / 1000)
        asyncio.run(run_all(soak, series, seconds=options.minutes * 60, callers=options.callers))
        time.sleep(2)  # Refunds of those who hung up are commits of their own.
        for (kind, what), count in sorted(soak.told.items()):
            print(f"  {kind:<6} {what:<32} {count:>8}")
        faults = [*soak.faults, *find_growth(series), *check_books(site, soak)]
        lines = site.log_text().splitlines()
    errors = [index for index, line in enumerate(lines) if " ERROR " in line]
    for line in faults[:20]:
        print(f"  FAULT {line}")
    for index in errors[:3]:  # With what comes behind it: the traceback.
        print("\n".join(lines[index : index + 40]))
    print(f"{len(faults)} faults, {len(errors)} errors in the log")
    return 1 if faults or errors else 0


if __name__ == "__main__":
    sys.exit(main())
