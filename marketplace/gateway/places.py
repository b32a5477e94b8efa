"""Where the inference workers run: beside the gateway, or on the nodes of a Ray cluster."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from inference.devices import count_gpus, expects_cuda
from inference.pool import Worker, WorkerProcess, WorkerSettings

# Addresses that a worker may map besides its models': ONNX Runtime itself, and what runs need.
_WORKER_OWN_BYTES: Final = 2 * 2**30


def _nothing() -> None:
    """Have nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How workers are started there, and what comes before the first and after the last."""

    start_worker: Callable[..., WorkerProcess] = Worker
    settings: WorkerSettings
    join: Callable[[], None] = _nothing  # Blocks.
    leave: Callable[[], None] = _nothing


def count_workers() -> int:
    """Return how many workers a gateway starts."""
    if settings.INFERENCE_WORKERS:
        return int(settings.INFERENCE_WORKERS)
    return (count_gpus() if expects_cuda(settings.INFERENCE_DEVICE) else 0) or os.cpu_count() or 1


def find_place() -> Place:
    """Return where ENGINE says that workers run.

    Raises:
        ImproperlyConfigured: it says Ray, and the extra is not installed.
    """
    asked = WorkerSettings(
        device=settings.INFERENCE_DEVICE,
        memory_bytes=settings.MODELS_MEMORY_MB * 2**20 + _WORKER_OWN_BYTES,
        gpu_model_memory_bytes=settings.GPU_MODEL_MEMORY_MB * 2**20,
    )
    if settings.ENGINE == "local":
        return Place(settings=asked)
    try:
        from inference import ray_pool  # noqa: PLC0415 (2 s, and 100 MB that most sites do not install)
    except ImportError as error:
        message = "ENGINE=ray, but Ray is not installed: .venv/bin/python -m pip install 'ray~=2.60'"
        raise ImproperlyConfigured(message) from error
    return Place(
        start_worker=ray_pool.RayWorker,
        settings=replace(asked, start_timeout_s=180),  # Ray starts an interpreter for the actor, then the actor its worker.
        join=lambda: ray_pool.connect(settings.RAY_ADDRESS),
        leave=ray_pool.disconnect,
    )
