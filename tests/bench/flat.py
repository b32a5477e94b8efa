"""`make bench-flat`: does a call cost the same however much there is? Models, keys and past calls, each few against many.

Two sites run beside each other and are loaded in turns; what is compared is the CPU that a whole site spends per answered
call, as a ratio within each pair of turns, and the memory of its workers. `--filled FOLDER` is a database that
`tests.bench.scale --folder FOLDER` has filled; without it past calls are left out.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.bench.processes import resident_mb, tree_cpu_s
from tests.bench.run import Workload, drive
from tests.flows.server import ROOT, Site, start_site

# In a process of its own: the settings name one VAR_DIR for good.
_ADD: Final = """
import secrets, sys
from billing.prices import set_price
from marketplace.models import ApiKey, CatalogueModel, ModelVersion, Organization
what, count = sys.argv[1], int(sys.argv[2])
if what == "models":
    live = ModelVersion.objects.get(model__owner__slug="farebox", model__name="sentiment", state="live")
    house = live.model.owner
    models = [
        CatalogueModel(owner=house, name=f"copy-{number}", title="Copy", summary="", task=live.model.task, public=True) for number in range(count)
    ]
    CatalogueModel.objects.bulk_create(models, batch_size=500)
    for model in models:
        live.pk, live._state.adding, live.model, live.number = None, True, model, 1
        live.pk = ModelVersion._meta.pk.get_default()
        live.save(force_insert=True)
        set_price(sku=live.sku, unit="token", unit_nanos=200)
else:
    demo = Organization.objects.get(slug="demo")
    keys = (
        ApiKey(organization=demo, name=f"Key {number}", digest=secrets.token_hex(32), pepper_version=1, display_start="fb_sk_live_", last4="0000")
        for number in range(count)
    )
    ApiKey.objects.bulk_create(keys, batch_size=1000)
"""
FEW: Final = 10
CONNECTIONS: Final = 32
# A site that was just started has its books to check, once: it is waited for.
_QUIET: Final = 0.15  # Cores that a site without calls may be busy.
_QUIET_WAIT_S: Final = 900


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=1000, help="0 leaves them out")
    parser.add_argument("--keys", type=int, default=100_000, help="likewise")
    parser.add_argument("--filled", type=Path, help="a folder of tests.bench.scale, on SQLite")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    asked = parser.parse_args()
    print("| few | many | us of CPU a call, few | many | ratio | of the gateway and its workers alone | workers' memory, MB |")
    print("|---|---|---:|---:|---:|---:|---:|", flush=True)
    with ExitStack() as stack:
        workload = Workload("starter", Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farebox-flat-"))) / "starter")
        few = stack.enter_context(_site("few", models=FEW, keys=FEW))
        for name, count in (("models", asked.models), ("keys", asked.keys)):
            if count <= FEW:
                continue
            counts = {"models": FEW, "keys": FEW, name: count}
            with _site(name, **counts) as many:
                _compare(workload, few, many, asked, label=f"{FEW} {name} | {count:,} {name}")
        if asked.filled:
            with _filled(asked.filled) as many:
                events = many.query("SELECT MAX(seq) FROM billing_usageevent")
                _compare(workload, few, many, asked, label=f"no past calls | {events:,} past calls")


@contextmanager
def _site(name: str, *, models: int, keys: int) -> Iterator[Site]:
    with start_site(ORGANIZATION_CONCURRENCY="1024") as site:
        for what, count in (("models", models - 1), ("keys", keys - 1)):  # It starts with one of each.
            environment = {**os.environ, "VAR_DIR": str(site.var_dir), "DJANGO_SETTINGS_MODULE": "marketplace.settings"}
            program = "import django; django.setup()" + _ADD
            subprocess.run([sys.executable, "-c", program, what, str(count)], cwd=ROOT, env=environment, check=True)
        _log(f"{name}: has {models:,} models and {keys:,} keys")
        yield site


@contextmanager
def _filled(folder: Path) -> Iterator[Site]:
    key = (folder / "key").read_text()
    with start_site(var_dir=folder, key=key, ORGANIZATION_CONCURRENCY="1024") as site:
        yield site


def _compare(workload: Workload, few: Site, many: Site, asked: argparse.Namespace, *, label: str) -> None:
    for site in (few, many):
        drive(site, workload, connections=CONNECTIONS, seconds=2)
        _wait_until_quiet(site)
    costs: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for number in range(asked.rounds):
        _log(f"{label}: round {number + 1} of {asked.rounds}")
        turns = {site.port: _cost(site, workload, seconds=asked.seconds) for site in ((few, many) if number % 2 else (many, few))}
        costs.append((turns[few.port], turns[many.port]))
    whole = statistics.median(more[0] / less[0] for less, more in costs)
    engine = statistics.median(more[1] / less[1] for less, more in costs)
    sums = [statistics.median(pair[place][0] for pair in costs) for place in (0, 1)]
    memory = " against ".join(f"{sum(map(resident_mb, site.worker_pids())):.0f}" for site in (few, many))
    print(f"| {label} | {sums[0]:.0f} | {sums[1]:.0f} | {whole:.2f} | {engine:.2f} | {memory} |", flush=True)


def _cost(site: Site, workload: Workload, *, seconds: int) -> tuple[float, float]:
    """Return the microseconds of CPU per answered call: of the whole site, and of the gateway with its workers."""
    gateway = site.gateway_pid()
    assert gateway is not None
    before = tree_cpu_s(site.supervisor.pid), tree_cpu_s(gateway)
    row = drive(site, workload, connections=CONNECTIONS, seconds=seconds)
    assert not row["refused"], row
    after = tree_cpu_s(site.supervisor.pid), tree_cpu_s(gateway)
    return (after[0] - before[0]) / row["answers"] * 1e6, (after[1] - before[1]) / row["answers"] * 1e6


def _wait_until_quiet(site: Site) -> None:
    deadline = time.monotonic() + _QUIET_WAIT_S
    while True:
        before, began = tree_cpu_s(site.supervisor.pid), time.monotonic()
        time.sleep(4)
        busy = (tree_cpu_s(site.supervisor.pid) - before) / (time.monotonic() - began)
        if busy < _QUIET:
            return
        assert time.monotonic() < deadline, f"a site without calls is busy with {busy:.2f} cores"


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
