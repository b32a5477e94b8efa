"""Runs models in worker processes, batched: `await engine.infer(bundle, rows, ...)`, or `infer_tensors` with named arrays.

The engine lives in the gateway's event loop and has no thread in the path of a call: rows are
queued (`queueing`), cut into batches (`batching`), sent to a worker that is free (`dispatch`,
`pool`), and answered as its socket becomes readable. `fleet` keeps the workers alive.
"""

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.artifacts import Bundle
from inference.batching import BatchLimits
from inference.counters import VersionFigures
from inference.dispatch import Dispatcher
from inference.errors import DeadlineExceeded, EngineStopping, InvalidInput, ModelLoadFailed
from inference.fleet import Fleet
from inference.housekeeping import Housekeeper
from inference.pool import Worker, WorkerProcess, WorkerSettings
from inference.queueing import Inferred, Priority, Tensors

__all__ = ["Engine", "EngineStats", "Inferred", "Priority", "VersionStats"]

# A version that could not be loaded is refused without another try for so long.
_LOAD_RETRY_S: Final = 5.0
# What a worker without work needs to notice that its socket has ended.
_EXIT_GRACE_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """The engine at one moment; the counts are since the start."""

    queue_rows: int
    batches: int
    rows: int
    tokens: int
    padded_tokens: int  # Rows x longest of each batch, so padding's share is 1 - tokens / padded_tokens.
    failed_rows: int  # Rows of batches that the model failed on, before they were retried.
    retried_rows: int
    batches_by_rows: dict[int, int]  # Rows of a batch -> how many had so many.
    restarts: int
    ready_workers: int
    pids: tuple[int, ...]
    versions: tuple["VersionStats", ...]  # Of every version that was ever loaded, the newest call first.
    provider: str  # "cuda" if any loaded version runs there, else "cpu".
    asks_cuda: bool  # Whether workers ask for a GPU.
    cpu_workers: int  # Workers that asked for a GPU and have none.
    sandbox: dict[str, Any]  # What the first worker could apply (`sandbox.SandboxReport`).


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStats:
    """One version at one moment."""

    key: str  # Of its bundle; begins with the artifact's SHA-256.
    loaded: bool
    provider: str  # "" while it is not loaded.
    waiting_rows: int
    figures: VersionFigures


class Engine:
    """One queue per version, one process per worker."""

    def __init__(
        self,
        *,
        workers: int,
        limits: BatchLimits | None = None,
        max_queue_rows: int = 1_024,
        settings: WorkerSettings | None = None,
        start_worker: Callable[..., WorkerProcess] = Worker,
        models_memory_bytes: int | None = None,
        model_idle_s: float | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            workers: Processes: one per core, or one per GPU.
            limits: Bounds of one batch.
            max_queue_rows: Most rows that wait for a worker, of all versions together; one tenant may take half.
            settings: Device, memory and timeouts of the workers.
            start_worker: Starts one, with the arguments of `Worker`: beside us, or on another machine (`ray_pool`).
            models_memory_bytes: Most that all loaded versions together may take of each worker; None for no bound.
            model_idle_s: A version that nobody called for so long is unloaded; None for never.
        """
        self._workers = workers
        self._limits = limits or BatchLimits()
        self._max_queue_rows = max_queue_rows
        self._settings = settings or WorkerSettings()
        self._start_worker = start_worker
        self._dispatcher: Dispatcher | None = None
        self._fleet: Fleet | None = None
        self._keeper: Housekeeper | None = None
        self._models_memory_bytes = models_memory_bytes
        self._model_idle_s = model_idle_s
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, tuple[ModelLoadFailed, float]] = {}

    async def start(self) -> None:
        """Start the workers, return when all answer.

        Raises:
            WorkerLost: one could not start; none is left running.
        """
        dispatcher = Dispatcher(
            limits=self._limits,
            max_queue_rows=self._max_queue_rows,
            run_timeout_s=self._settings.run_timeout_s,
        )
        fleet = Fleet(dispatcher, workers=self._workers, settings=self._settings, start_worker=self._start_worker)
        await fleet.start()
        self._dispatcher, self._fleet = dispatcher, fleet
        self._keeper = Housekeeper(fleet, dispatcher, memory_bytes=self._models_memory_bytes, idle_s=self._model_idle_s)
        self._keeper.start()

    async def stop(self, *, drain_s: float) -> None:
        """Refuse new calls, answer those that wait, and end the workers.

        Args:
            drain_s: Longest the queue may take; what is left then fails with EngineStopping.
        """
        dispatcher, fleet = self._dispatcher, self._fleet
        self._dispatcher = self._fleet = None
        if dispatcher is None or fleet is None:
            return
        if self._keeper is not None:
            await self._keeper.stop()
        try:
            await asyncio.wait_for(dispatcher.wait_until_idle(), drain_s)
        except TimeoutError:
            dispatcher.fail_all(EngineStopping("the engine stopped before the call was run"))
        for load in self._loads.values():
            load.cancel()
        await asyncio.gather(*self._loads.values(), return_exceptions=True)
        await fleet.stop(grace_s=_EXIT_GRACE_S)

    @property
    def waiting_rows(self) -> int:
        """How many rows wait for a worker, by weight."""
        return self._dispatcher.waiting_rows if self._dispatcher else 0

    def is_ready(self) -> bool:
        """Whether a call would find a worker now."""
        return self._dispatcher is not None and len(self._dispatcher.stations) > 0

    async def load(self, bundle: Bundle) -> None:
        """Load and warm up a version on every worker; `infer` does it for a version that is not loaded.

        Raises:
            ModelLoadFailed: it cannot be loaded. It is not tried again for 5 seconds.
            EngineStopping: the engine is not running.
        """
        fleet = self._fleet
        if fleet is None:
            raise EngineStopping
        key = bundle.key
        if key in fleet.served:
            return
        loop = asyncio.get_running_loop()
        refused = self._refused.get(key)
        if refused is not None:
            error, until = refused
            if loop.time() < until:
                raise ModelLoadFailed(error.detail)
            del self._refused[key]
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = asyncio.create_task(self._load(bundle))
            load.add_done_callback(lambda _: self._loads.pop(key, None))
        # Shielded: many calls may wait for one load, and one of them may hang up.
        try:
            await asyncio.shield(load)
        except asyncio.CancelledError:
            if load.cancelled():  # By `stop`: nobody cancelled the caller.
                raise EngineStopping from None
            raise

    def has_room(self, bundle: Bundle) -> bool:
        """Whether a version could be loaded without another being evicted."""
        return self._keeper is not None and self._keeper.has_room(bundle)

    async def unload(self, bundle: Bundle) -> None:
        """Free a version's memory on every worker; calls that wait for it fail with ModelLoadFailed."""
        if self._fleet is not None:
            await self._fleet.unload(bundle)

    async def infer(
        self,
        bundle: Bundle,
        rows: Sequence[npt.NDArray[np.int64]],
        *,
        tenant: Hashable,
        deadline: float,
        priority: Priority = Priority.LIVE,
    ) -> Inferred:
        """Run a call's rows, in batches with other calls', and return their outputs.

        Cancelling the awaiting task takes the rows out of the queue.

        Args:
            bundle: The version; loaded first where it is not.
            rows: At least one array of ids, `(time,)` int64, none empty (`Pipeline.prepare`).
            tenant: Whose call it is: tenants take turns.
            deadline: Seconds of the loop's clock after which no answer is wanted.
            priority: A batch job's rows run where no live call waits for a worker.

        Raises:
            QueueFull, EngineStopping, ModelLoadFailed: nothing ran.
            DeadlineExceeded: the deadline passed; `started` says whether a row had been sent.
            ModelFailed: the model failed on one of the rows, alone.
            WorkerLost: two workers died on one of the rows.
        """
        fleet, dispatcher = self._fleet, self._dispatcher
        if fleet is None or dispatcher is None:
            raise EngineStopping
        if bundle.pipeline is None:
            raise InvalidInput(param="input_data", detail="This version takes tensors by name.", reason="wrong_type")
        while bundle.key not in fleet.served:  # A loop, because it may be unloaded again before we go on.
            await self._load_before(bundle, deadline)
        call = dispatcher.submit(
            bundle.key,
            rows,
            output=bundle.pipeline.collation.output,
            tenant=tenant,
            deadline=deadline,
            limits=bundle.limits,
            priority=priority,
        )
        try:
            return await call.future
        except asyncio.CancelledError:
            dispatcher.abandon(call)
            raise

    async def infer_tensors(
        self,
        bundle: Bundle,
        inputs: Mapping[str, npt.NDArray[Any]],
        *,
        outputs: Sequence[str] | None = None,
        tenant: Hashable,
        deadline: float,
        allow_nonfinite: bool = False,
        priority: Priority = Priority.LIVE,
    ) -> Inferred:
        """Run a call with the graph's own tensors and return its outputs as the model gave them.

        It runs together with calls of equal shapes where the load showed that the model's rows keep
        apart, else alone. Cancelling the awaiting task takes it out of the queue.

        Args:
            bundle: The version; loaded first where it is not.
            inputs: Name -> array; BYTES are object arrays of `bytes`.
            outputs: The names wanted; None for all.
            tenant: Whose call it is: tenants take turns.
            deadline: Seconds of the loop's clock after which no answer is wanted.
            allow_nonfinite: Whether NaN and the infinities may be sent.
            priority: As of `infer`.

        Returns:
            Texts, sequences and maps are object arrays of `bytes` (`signature.TensorSpec.kind`).

        Raises:
            InvalidInput: the signature does not take these inputs, or has no such output. Nothing was queued.
            QueueFull, EngineStopping, ModelLoadFailed, DeadlineExceeded, ModelFailed, WorkerLost: as `infer`.
        """
        fleet, dispatcher = self._fleet, self._dispatcher
        if fleet is None or dispatcher is None:
            raise EngineStopping
        signature = bundle.signature
        signature.check_inputs(inputs, allow_nonfinite=allow_nonfinite)
        if outputs is not None:
            signature.check_outputs(outputs)
        tensors = Tensors(inputs, tuple(outputs or ()), signature.find_rows(inputs))
        while bundle.key not in fleet.served:
            await self._load_before(bundle, deadline)
        call = dispatcher.submit(
            bundle.key, [tensors], output=None, tenant=tenant, deadline=deadline, limits=bundle.limits, priority=priority
        )
        try:
            return await call.future
        except asyncio.CancelledError:
            dispatcher.abandon(call)
            raise

    def stats(self) -> EngineStats:
        """Return the counts and the state of the workers; zeros while the engine is not running."""
        fleet, dispatcher = self._fleet, self._dispatcher
        if fleet is None or dispatcher is None:
            return EngineStats(
                queue_rows=0, batches=0, rows=0, tokens=0, padded_tokens=0, failed_rows=0, retried_rows=0, batches_by_rows={},
                restarts=0, ready_workers=0, pids=(), versions=(), provider="cpu",
                asks_cuda=False, cpu_workers=0, sandbox={},
            )  # fmt: skip
        counters, stations, workers = dispatcher.counters, dispatcher.stations, fleet.workers
        providers = {provider for station in stations for provider in station.serves.values()}
        return EngineStats(
            queue_rows=dispatcher.waiting_rows,
            batches=counters.batches,
            rows=counters.rows,
            tokens=counters.tokens,
            padded_tokens=counters.padded_tokens,
            failed_rows=counters.failed_rows,
            retried_rows=counters.retried_rows,
            batches_by_rows=dict(counters.batches_by_rows),
            restarts=fleet.restarts,
            ready_workers=len(stations),
            pids=tuple(worker.pid for worker in workers),
            versions=self._version_stats(fleet, dispatcher),
            provider="cuda" if "cuda" in providers else "cpu",
            asks_cuda=any(worker.report.get("asks_cuda") for worker in workers),
            cpu_workers=sum(worker.report.get("cuda_fault") is not None for worker in workers),
            sandbox=workers[0].report if workers else {},
        )

    @staticmethod
    def _version_stats(fleet: Fleet, dispatcher: Dispatcher) -> tuple[VersionStats, ...]:
        providers = {key: provider for station in dispatcher.stations for key, provider in station.serves.items()}
        newest_first = sorted(dispatcher.figures.items(), key=lambda item: -item[1].used_at)
        return tuple(
            VersionStats(
                key=key,
                loaded=key in fleet.served,
                provider=providers.get(key, ""),
                waiting_rows=dispatcher.count_waiting(key),
                figures=replace(figures),
            )
            for key, figures in newest_first
        )

    async def _load(self, bundle: Bundle) -> None:
        assert self._keeper is not None  # `load` has seen that the engine runs.
        try:
            await self._keeper.load(bundle)
        except ModelLoadFailed as error:
            self._refused[bundle.key] = (error, asyncio.get_running_loop().time() + _LOAD_RETRY_S)
            raise

    async def _load_before(self, bundle: Bundle, deadline: float) -> None:
        if self._dispatcher is None:
            raise EngineStopping
        figures = self._dispatcher.figures[bundle.key]
        figures.loading_calls += 1  # What is waited for is not evicted before its call is queued.
        try:
            async with asyncio.timeout_at(deadline):
                await self.load(bundle)
        except TimeoutError as error:
            raise DeadlineExceeded(started=False) from error
        finally:
            figures.loading_calls -= 1
        if self._fleet is None:
            raise EngineStopping
