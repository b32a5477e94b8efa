"""`make bench PROVIDER=cuda`: the models on a GPU, against the same models on the CPU of the same machine.

    python -m tests.bench.cuda [--seconds 1] [--memory-mb 4096]

Needs a GPU, and of the environment only numpy, onnx and onnxruntime-gpu. It asserts that the GPU is had, by
the sandboxed worker too, and that answers agree with the CPU's; prints versions, where each node is, and rows a
second. Ends with a number of failed checks; where the worker has no GPU it then says which part of the
sandbox takes it away. Times are printed, never asserted.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from inference import devices, landlock, providers
from inference.artifacts import Bundle, load_bundle
from inference.engine import Engine
from inference.pipelines.pipeline import TextPipeline
from inference.pool import WorkerSettings
from inference.providers import Gpu
from inference.session import Session
from tests.bench.flagship import make_flagship

ROOT: Final = Path(__file__).resolve().parents[2]
ROWS: Final = (1, 4, 16, 64, 256)
STEPS: Final = 64
# Float32 summed in another order, through two LSTM layers and a sigmoid.
TOLERANCE: Final = 1e-4
# Each leaves one thing of the sandbox out, until one lets the GPU work.
PARTS: Final = {
    "all of it": "",
    "but the uid": "sandbox._take_uid = lambda uid, *, reaching: None",
    "but the namespaces": "sandbox._unshare = lambda flags: False",
    "but Landlock": "sandbox.landlock.find_abi = lambda: None",
    "but the limits": "sandbox._limit_resources = lambda **_: {}",
    "but the memory's being closed": "prctl = sandbox._prctl; sandbox._prctl = lambda option, value: option == 4 or prctl(option, value)",
    "but the cleared environment": "sandbox._clear_environment = lambda keep: None",
    "but the closed descriptors": "sandbox._keep_only = lambda fd: None",
    "nothing of it": "sandbox.enter = lambda **_: None",
}
PROBE: Final = """
import os, socket, sys
from inference import providers, sandbox
{change}
sock = socket.socket(fileno=int(sys.argv[1]))
fault = providers.load_cuda_libraries()
if fault is None:
    sandbox.enter(keep_fd=sock.fileno(), index=0, memory_bytes=2**32, cuda=True)
    fault = providers.find_cuda_fault(providers.Gpu())
sock.sendall((fault or "the GPU answers").encode())
"""
failed: list[str] = []


def check(name: str, *, holds: bool, told: object = "") -> None:
    """Print one check, and count it where it fails."""
    print(f"{'ok  ' if holds else 'FAIL'} {name}{f': {told}' if told != '' else ''}", flush=True)
    if not holds:
        failed.append(name)


def print_versions() -> None:
    """Print what the figures were measured with."""
    import onnxruntime as ort  # After `providers`, which turns its telemetry off.

    print(f"Python {platform.python_version()}, numpy {np.__version__}, onnx {onnx.__version__}, onnxruntime {ort.__version__}")
    print(f"built for CUDA {ort.cuda_version}; providers in it: {ort.get_available_providers()}")
    print(f"{platform.release()}, uid {os.getuid()}, Landlock ABI {landlock.find_abi()}, {os.cpu_count()} cores")
    print(
        f"{devices.count_gpus()} GPUs; asks for CUDA: {devices.expects_cuda()}; device files {sorted(map(str, Path('/dev').glob('nvidia*')))}"
    )
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        print(subprocess.run(query, capture_output=True, text=True, timeout=20, check=False).stdout.strip())
    except OSError as error:
        print(f"nvidia-smi: {error}")


def open_both(bundle: Bundle, gpu: Gpu) -> dict[str, Session]:
    """Return the model's session on each, loaded and warm."""
    assert bundle.pipeline
    model = bundle.path.read_bytes()
    opened = {}
    for name, asked in (("cpu", None), ("cuda", gpu)):
        began = time.perf_counter()
        opened[name] = Session(model, collation=bundle.pipeline.collation, signature=bundle.signature, gpu=asked)
        placement = opened[name].placement
        on_cpu = f", {placement.cpu_nodes} of them on the CPU: {', '.join(placement.name_cpu_operators(20))}" if name == "cuda" else ""
        print(f"{name}: loaded in {time.perf_counter() - began:.2f} s, {placement.nodes} nodes{on_cpu}")
    return opened


def make_batch(rows: int, *, words: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of different lengths, the longest of STEPS."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, STEPS + 1, rows)
    lengths[0] = STEPS
    return rng.integers(2, words, int(lengths.sum())), lengths


def rows_a_second(session: Session, batch: tuple[np.ndarray, np.ndarray], *, seconds: float) -> float:
    """Return how many rows a second a session answers, after a first run that counts for nothing."""
    session.run(*batch)
    began, runs = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        session.run(*batch)
        runs += 1
    return batch[1].size * runs / (time.perf_counter() - began)


def compare(name: str, bundle: Bundle, gpu: Gpu, *, seconds: float) -> None:
    """Compare the model's answers on both, and measure each in batches of growing size."""
    print(f"\n## {name}")
    opened = open_both(bundle, gpu)
    assert isinstance(bundle.pipeline, TextPipeline)
    words = len(bundle.pipeline.vocabulary)
    check(f"{name}: get_providers() of the session says CUDA", holds=opened["cuda"].placement.provider == "cuda")
    check(f"{name}: its LSTMs are on the GPU", holds="LSTM" not in opened["cuda"].placement.cpu_operators)
    print(f"cost of a time step by rows, us: cpu {_rounded(opened['cpu'].step_costs)}, cuda {_rounded(opened['cuda'].step_costs)}")
    print(
        f"\n| rows of {STEPS} steps at most | CPU, 1 thread: rows/s | CUDA: rows/s | CUDA without IO binding | CUDA / CPU | greatest difference |"
    )
    print("|---:|---:|---:|---:|---:|---:|")
    for rows in ROWS:
        batch = make_batch(rows, words=words, seed=rows)
        apart = float(np.abs(opened["cpu"].run(*batch) - opened["cuda"].run(*batch)).max())
        speed = {one: rows_a_second(opened[one], batch, seconds=seconds) for one in opened}
        opened["cuda"]._binds = False
        speed["plain"] = rows_a_second(opened["cuda"], batch, seconds=seconds)
        opened["cuda"]._binds = True
        ratio = speed["cuda"] / speed["cpu"]
        print(f"| {rows} | {speed['cpu']:.0f} | {speed['cuda']:.0f} | {speed['plain']:.0f} | {ratio:.2f} | {apart:.1e} |", flush=True)
        if not apart <= TOLERANCE:
            failed.append(f"{name}: answers of {rows} rows differ by {apart}")
    flat, lengths = make_batch(16, words=words, seed=3)
    alone = np.concatenate([opened["cuda"].run(row, np.array([row.size])) for row in np.split(flat, np.cumsum(lengths)[:-1])])
    apart = float(np.abs(alone - opened["cuda"].run(flat, lengths)).max())
    check(f"{name}: a row in a batch is answered as alone", holds=apart <= TOLERANCE, told=f"{apart:.1e}")


async def call_engine(name: str, bundle: Bundle, gpu: Gpu, *, seconds: float) -> None:
    """Call the model through the engine and its sandboxed worker, one by one and 256 at once."""
    print(f"\n## {name} through the engine")
    assert isinstance(bundle.pipeline, TextPipeline)
    words = len(bundle.pipeline.vocabulary)
    answers = {}
    for device in ("cpu", "cuda"):
        settings = WorkerSettings(device=device, gpu_model_memory_bytes=gpu.model_memory_bytes, start_timeout_s=120, load_timeout_s=120)
        engine = Engine(workers=1, settings=settings, max_queue_rows=100_000)
        began = time.perf_counter()
        await engine.start()
        try:
            await engine.load(bundle)
            print(f"{device}: started and loaded in {time.perf_counter() - began:.1f} s")
            stats = engine.stats()
            if device == "cuda":
                print(f"the worker's report: {json.dumps(stats.sandbox)}")
                check(f"{name}: the worker has the GPU", holds=stats.provider == "cuda", told=stats.sandbox.get("cuda_fault") or "cuda")
                check(f"{name}: the engine counts no worker without", holds=stats.asks_cuda and stats.cpu_workers == 0)
            flat, lengths = make_batch(1_000, words=words, seed=7)
            rows = np.split(flat, np.cumsum(lengths)[:-1])

            async def call(row: np.ndarray, engine: Engine = engine) -> float:
                inferred = await engine.infer(bundle, [row], tenant="bench", deadline=asyncio.get_running_loop().time() + 60)
                assert inferred.provider == engine.stats().provider
                return float(next(iter(inferred.outputs.values())).ravel()[0])

            answers[device] = await asyncio.gather(*map(call, rows[:512]))
            for outstanding in (1, 32, 256):
                began, done = time.perf_counter(), 0
                while time.perf_counter() - began < seconds:
                    batch = [rows[(done + at) % len(rows)] for at in range(outstanding)]
                    await asyncio.gather(*map(call, batch))
                    done += outstanding
                print(f"{device}: {outstanding} at once: {done / (time.perf_counter() - began):.0f} calls/s", flush=True)
        finally:
            await engine.stop(drain_s=10)
    apart = float(np.abs(np.array(answers["cpu"]) - answers["cuda"]).max())
    check(f"{name}: the engine's answers agree", holds=apart <= TOLERANCE, told=f"{apart:.1e}")


def print_parts() -> None:
    """Print which part of the sandbox takes the GPU away: each is left out in a process of its own."""
    import socket

    print("\n## The sandbox in parts")
    for name, change in PARTS.items():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            program = subprocess.Popen(
                [sys.executable, "-c", PROBE.format(change=change), str(theirs.fileno())], pass_fds=(theirs.fileno(),), cwd=ROOT
            )
            theirs.close()
            ours.settimeout(60)
            try:
                told = ours.recv(2_000).decode() or "it died"
            except TimeoutError:
                told = "it hangs"
            program.kill()
            program.wait()
        print(f"{name}: {told}", flush=True)


def _rounded(costs: dict[int, float]) -> dict[int, float]:
    return {rows: round(cost, 1) for rows, cost in costs.items()}


def main() -> None:
    """Check, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--memory-mb", type=int, default=4096, help="of the GPU, for one model")
    arguments = parser.parse_args()
    gpu = Gpu(model_memory_bytes=arguments.memory_mb * 2**20)
    print_versions()
    missing = providers.load_cuda_libraries()
    check("the libraries that CUDA needs can be loaded", holds=missing is None, told=missing or "")
    fault = providers.find_cuda_fault(gpu)
    check("the GPU answers outside the sandbox", holds=fault is None, told=fault or "")
    if failed:
        sys.exit("No GPU is to be had: nothing was measured.")
    with tempfile.TemporaryDirectory(prefix="farebox-cuda-") as folder:
        make_flagship(Path(folder) / "flagship")
        sources = {"starter (hidden 96)": ROOT / "inference" / "starter" / "sentiment", "flagship (hidden 256)": Path(folder) / "flagship"}
        bundles = {name: load_bundle(source, sha256=None) for name, source in sources.items()}
        for name, bundle in bundles.items():
            compare(name, bundle, gpu, seconds=arguments.seconds)
        for name, bundle in bundles.items():
            asyncio.run(call_engine(name, bundle, gpu, seconds=arguments.seconds))
    if any("worker" in name for name in failed):
        print_parts()
    print(f"\n{len(failed)} checks failed{''.join(f'{chr(10)}- {name}' for name in failed)}")
    sys.exit(min(len(failed), 100))


if __name__ == "__main__":
    main()
