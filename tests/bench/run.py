"""`make bench`: the metered gateway against bare ONNX Runtime, both measured in one run.

Each round measures the bare limit and then the gateway at every number of connections; ratios are
formed within a round and the median of the rounds is shown, so that a machine that drifts does not
decide. Every answered call is looked for in the database afterwards.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inference.pipelines.pipeline import load_pipeline
from tests.bench.flagship import make_flagship, make_texts
from tests.bench.processes import tree_cpu_s
from tests.bench.texts import load_texts
from tests.flows.calls import PREDICT, Caller
from tests.flows.server import ROOT, Site, start_site

STARTER = ROOT / "inference" / "starter" / "sentiment"
PUBLISH = """
import sys
from pathlib import Path
from marketplace.models import Organization
from marketplace.publishing import list_model, publish_version
owner, source = Organization.objects.get(slug="farebox"), Path(sys.argv[1])
model = list_model(owner=owner, name="flagship", source=source, public=True, by="bench")
publish_version(model=model, source=source, unit="token", unit_nanos=1, by="bench")
"""
CORES = os.cpu_count() or 1
WARM_UP_S = 2
Row = dict[str, Any]


class Workload:
    """A model and its texts, as request bodies and as lengths, in files that the measuring programs read."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.name, self.source, self.path = name, STARTER, PREDICT
        if name == "flagship":
            self.source, self.path = folder / "flagship", PREDICT.replace("sentiment", "flagship")
            make_flagship(self.source)
            texts, self.what = make_texts(), "the flagship (hidden 256), texts as long as reviews"
        else:
            texts, self.what = load_texts(datasets=ROOT / "var" / "datasets", vocabulary=STARTER / "vocabulary.txt")
            self.what = f"the starter model (hidden 96), {self.what}"
        self.model = self.source / "model.onnx"
        pipeline = load_pipeline(self.source)
        lengths = [len(pipeline.prepare(text, max_rows=1, max_characters=1_000_000).rows[0]) for text in texts]
        self.mean = statistics.mean(lengths)
        self.bodies, self.lengths = folder / "bodies.jsonl", folder / "lengths.json"
        self.bodies.write_text("".join(json.dumps({"input_data": text}) + "\n" for text in texts))
        self.lengths.write_text(json.dumps(lengths))


def measure_bare(workload: Workload, configs: list[str], *, seconds: float) -> list[Row]:
    """Measure configurations of bare `session.run` in a process of their own."""
    command = [sys.executable, "-m", "tests.bench.bare", str(workload.model), str(workload.lengths), str(seconds), *configs]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def choose_configs(workload: Workload, connections: list[int]) -> dict[str, str]:
    """Find, by a short trial, the best way to run the model bare with as many calls outstanding."""
    candidates = {"best": [f"sort/{size}/{CORES}" for size in (4, 8, 16, 32, 64)]}
    for count in connections:
        ways = [f"win{count}/{size}/{CORES}" for size in (2, 4, 8, 16) if size <= count] + [f"cut{count}/0/{CORES}"]
        candidates[str(count)] = ways if count > 1 else ["fifo/1/1"]
    trial = measure_bare(workload, [config for ways in candidates.values() for config in ways], seconds=1.0)
    speed = {row["config"]: row["calls_s"] for row in trial}
    return {name: max(ways, key=speed.__getitem__) for name, ways in candidates.items()}


def put_load(site: Site, workload: Workload, *, connections: int, seconds: int) -> Row:
    """Load the gateway, after a warm-up; return what wrk saw and what both sides' CPU was."""
    drive(site, workload, connections=connections, seconds=WARM_UP_S)
    before, began = tree_cpu_s(site.supervisor.pid), time.perf_counter()
    row = drive(site, workload, connections=connections, seconds=seconds)
    cpu_s, wall_s = tree_cpu_s(site.supervisor.pid) - before, time.perf_counter() - began
    row |= {"calls_s": row["answers"] / row["seconds"], "cpu_us": 1e6 * cpu_s / row["answers"], "cores": cpu_s / wall_s}
    row["client_us"] = 1e6 * row["client_cpu_s"] / row["answers"]
    return row


def drive(site: Site, workload: Workload, *, connections: int, seconds: int) -> Row:
    """Run the load generator once, in a process of its own, and count its CPU."""
    if shutil.which("wrk"):
        url, script = f"http://127.0.0.1:{site.port}{workload.path}", str(ROOT / "tests" / "bench" / "load.lua")
        command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "20s", "-s", script, url]
        command = [*command, "--", str(workload.bodies), site.key]
    else:
        command = [
            sys.executable,
            "-m",
            "tests.bench.client",
            str(site.port),
            str(connections),
            str(seconds),
            str(workload.bodies),
            workload.path,
        ]
    before = os.times()
    output = subprocess.run(command, cwd=ROOT, input=site.key + "\n", capture_output=True, text=True, check=True).stdout
    after = os.times()
    client_cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    row: Row = json.loads(output.splitlines()[-1])
    ledger["answered"] += row["answers"] - row["refused"]
    ledger["refused"] += row["refused"]
    ledger["broken"] += row["broken"]
    ledger["cut_off"] += connections  # At the end wrk leaves that many calls unread.
    return row | {"client_cpu_s": client_cpu_s}


ledger = {"answered": 0, "refused": 0, "broken": 0, "cut_off": 0}


def check_metering(site: Site, *, started_with: int) -> list[str]:
    """Compare what clients were told with what the database holds; return a line for each check."""
    caller = Caller(site.port, site.key)
    ids = [caller.predict().headers["request-id"] for _ in range(100)]
    time.sleep(2)  # Calls that wrk abandoned end, and leases come back.
    from billing.ids import parse_public_id

    found = sum(
        site.query("SELECT COUNT(*) FROM billing_usageevent WHERE id = ?", (parse_public_id("req", text) or site).hex) for text in ids
    )  # type: ignore[union-attr]
    events = site.query("SELECT COUNT(*) FROM billing_usageevent") - started_with
    least = ledger["answered"] + len(ids)
    settings = {**os.environ, "VAR_DIR": str(site.var_dir)}
    program = "from billing.books import check_books; print(len(check_books()))"
    books = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", program], cwd=ROOT, env=settings, capture_output=True, text=True, check=True
    )
    return [
        f"answers {least}, usage events {events} (wrk cut off at most {ledger['cut_off']}): {'ok' if least <= events <= least + ledger['cut_off'] else 'WRONG'}",
        f"100 calls looked up by their Request-Id: {found} found: {'ok' if found == len(ids) else 'WRONG'}",
        f"balances against entries, differences: {books.stdout.split()[-1]}",
        f"refused {ledger['refused']}, connections broken {ledger['broken']}",
    ]


def median(rows: list[Row], name: str) -> float:
    """Return the median of one column."""
    return statistics.median(row[name] for row in rows)


def print_bare(rounds: list[dict[str, Row]], configs: dict[str, str]) -> None:
    """Print the limits."""
    print("\n| bare `session.run` | configuration | calls/s | CPU us per call | padding |\n|---|---|---:|---:|---:|")
    names = {"best": "best batch size, all texts at hand"}
    for name, config in configs.items():
        rows = [round_["bare " + name] for round_ in rounds]
        label = names.get(name, f"{name} outstanding")
        print(f"| {label} | `{config}` | {median(rows, 'calls_s'):.0f} | {median(rows, 'cpu_us'):.0f} | {rows[0]['padded']:.2f} |")


def print_gateway(rounds: list[dict[str, Row]], connections: list[int]) -> None:
    """Print the gateway beside the limit of as many outstanding calls."""
    print(
        "\n| connections | calls/s | p50 ms | p99 ms | CPU us per call | client's CPU us | of bare | of bare, client's CPU apart | tax us |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for count in connections:
        pairs = [(round_[f"gateway {count}"], round_[f"bare {count}"]) for round_ in rounds]
        rows = [row for row, _ in pairs]
        ratio = statistics.median(row["calls_s"] / bare["calls_s"] for row, bare in pairs)
        # What bare would do on the cores that the client leaves.
        apart = statistics.median(
            row["calls_s"] / (bare["calls_s"] * (1 - row["client_us"] * row["calls_s"] / 1e6 / CORES)) for row, bare in pairs
        )
        tax = statistics.median(row["cpu_us"] - bare["cpu_us"] for row, bare in pairs)
        print(
            f"| {count} | {median(rows, 'calls_s'):.0f} | {median(rows, 'p50_ms'):.1f} | {median(rows, 'p99_ms'):.1f} | {median(rows, 'cpu_us'):.0f}"
            f" | {median(rows, 'client_us'):.0f} | {ratio:.0%} | {apart:.0%} | {tax:.0f} |"
        )


def publish(site: Site, workload: Workload) -> None:
    """Put the workload's model into the site's catalogue, and wait until it answers."""
    if workload.source == STARTER:
        return
    settings = {**os.environ, "VAR_DIR": str(site.var_dir), "DJANGO_SETTINGS_MODULE": "marketplace.settings"}
    program = "import django; django.setup()" + PUBLISH
    subprocess.run([sys.executable, "-c", program, str(workload.source)], cwd=ROOT, env=settings, check=True)
    caller = Caller(site.port, site.key)
    deadline = time.monotonic() + 30
    while caller.post(workload.path, {"input_data": "w1"}).status != 200:
        assert time.monotonic() < deadline, "the model does not answer"
        time.sleep(0.2)


def measure(workload: Workload, connections: list[int], *, rounds: int, seconds: int) -> None:
    """Measure one workload on a site of its own, and print its tables."""
    print(f"\n## {workload.what}: {workload.mean:.1f} tokens on average")
    ledger.update(answered=0, refused=0, broken=0, cut_off=0)
    configs = choose_configs(workload, connections)
    measured: list[dict[str, Row]] = []
    with start_site(ORGANIZATION_CONCURRENCY="1024") as site:
        publish(site, workload)
        started_with = site.query("SELECT COUNT(*) FROM billing_usageevent")
        for number in range(rounds):
            print(f"{workload.name}: round {number + 1} of {rounds} ...", file=sys.stderr, flush=True)
            bare = measure_bare(workload, list(dict.fromkeys(configs.values())), seconds=2.0)
            by_config = {row["config"]: row for row in bare}
            row = {f"bare {name}": by_config[config] for name, config in configs.items()}
            for count in connections:
                row[f"gateway {count}"] = put_load(site, workload, connections=count, seconds=seconds)
            measured.append(row)
        checks = check_metering(site, started_with=started_with)
    print_bare(measured, configs)
    print_gateway(measured, connections)
    print("\nEvery call of this run was metered and durable:")
    for line in checks:
        print(f"- {line}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=6, help="of load for each number of connections in each round")
    parser.add_argument("--connections", default="1,32,128")
    parser.add_argument("--models", default="flagship,starter")
    arguments = parser.parse_args()
    connections = [int(text) for text in arguments.connections.split(",")]
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {CORES} cores, {platform.machine()}, Python {platform.python_version()}")
    print(f"load by {'wrk' if shutil.which('wrk') else 'tests/bench/client.py'}")
    with tempfile.TemporaryDirectory(prefix="farebox-bench-") as folder:
        for name in arguments.models.split(","):
            measure(Workload(name, Path(folder) / name), connections, rounds=arguments.rounds, seconds=arguments.seconds)


if __name__ == "__main__":
    main()
