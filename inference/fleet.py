"""The workers of one engine: started, restarted when they die, and each with every open version loaded."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Final, cast

from inference import wire
from inference.arrays import WireError
from inference.artifacts import Bundle, read_model
from inference.dispatch import Dispatcher
from inference.errors import ModelLoadFailed, WorkerLost
from inference.pool import Worker, WorkerProcess, WorkerSettings
from inference.stations import Station
from inference.wire import Frame, Kind

logger = logging.getLogger(__name__)

# A dead worker comes back after this, doubled each time it dies without having answered a batch.
_FIRST_RESTART_S: Final = 0.1
_LAST_RESTART_S: Final = 5.0
# Workers that may die of loading one version before it is called unloadable.
_MAX_LOAD_CRASHES: Final = 2


@dataclass(slots=True, eq=False)
class Version:
    """A version that workers have loaded, or shall."""

    bundle: Bundle
    number: int
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a worker's session has a model's nodes."""

    provider: str
    nodes: int
    cpu_nodes: int
    cpu_operators: list[str]  # The most frequent ones on the CPU.


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a worker learned of a model when it loaded it."""

    step_costs: dict[int, float]  # Rows of a batch -> cost of a time step; empty without a pipeline.
    joins: bool  # Whether calls with tensors may run together.


class Fleet:
    """Keeps `workers` processes alive and ready."""

    def __init__(
        self, dispatcher: Dispatcher, *, workers: int, settings: WorkerSettings, start_worker: Callable[..., WorkerProcess] = Worker
    ) -> None:
        """Start nothing yet.

        Args:
            dispatcher: What gives the workers their batches.
            workers: How many.
            settings: What each is started with.
            start_worker: Starts one, with the arguments of `Worker`.
        """
        self.restarts = 0
        self.served: dict[str, Version] = {}
        self._dispatcher = dispatcher
        self._settings = settings
        self._start_worker = start_worker
        self._size = workers
        self._workers: dict[int, WorkerProcess] = {}
        self._stations: dict[WorkerProcess, Station] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()
        self._next_number = 1

    @property
    def workers(self) -> list[WorkerProcess]:
        """The processes that are alive, ready or not."""
        return [worker for worker in self._workers.values() if not worker.lost.is_set()]

    async def start(self) -> None:
        """Start the workers; return when all of them are ready.

        Raises:
            WorkerLost: one could not start within `start_timeout_s`; none is left running.
        """
        self._keepers = [asyncio.create_task(self._keep(index)) for index in range(self._size)]
        try:
            async with asyncio.timeout(self._settings.start_timeout_s), self._changed:
                await self._changed.wait_for(lambda: len(self._dispatcher.stations) == self._size)
        except BaseException as error:
            await self.stop(grace_s=0)
            if isinstance(error, TimeoutError):
                msg = "the workers did not start in time"
                raise WorkerLost(msg) from error
            raise

    async def stop(self, *, grace_s: float) -> None:
        """End all workers: by closing their sockets, and after `grace_s` by force. None is left."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(worker.close(grace_s=grace_s) for worker in self._workers.values()))
        self._workers.clear()

    async def load(self, bundle: Bundle) -> None:
        """Load and warm up a version on every worker.

        One worker loads it first: a model that kills what loads it takes down one at a time.

        Raises:
            ModelLoadFailed: it cannot be loaded; no worker serves it.
        """
        version = Version(bundle, self._next_number)
        self._next_number += 1
        model = await asyncio.to_thread(read_model, bundle)
        while (loaded := await self._load_first(version, model)) is None:
            if version.crashes >= _MAX_LOAD_CRASHES:
                msg = "workers died or hung while loading it"
                raise ModelLoadFailed(msg)
        try:
            self._dispatcher.open_version(
                bundle.key,
                number=version.number,
                step_costs=loaded.step_costs,
                joins=loaded.joins,
                outputs=[spec.name for spec in bundle.signature.outputs],
            )
        except ValueError as error:
            msg = f"the worker's measurement is unusable: {error}"
            raise ModelLoadFailed(msg) from error
        self.served[bundle.key] = version
        self._dispatcher.wake()
        others = [station for station in self._dispatcher.stations if bundle.key not in station.serves]
        results = await asyncio.gather(*(self._load_on(station, version, model) for station in others), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                logger.warning("a worker could not load %s: %s", bundle.path.name, result)

    async def unload(self, bundle: Bundle) -> None:
        """Free a version's memory on every worker; calls that wait for it fail with ModelLoadFailed."""
        version = self.served.pop(bundle.key, None)
        if version is None:
            return
        self._dispatcher.close_version(bundle.key, ModelLoadFailed("the version was unloaded"))
        for worker in self.workers:
            worker.send(Kind.UNLOAD, wire.RUN_PREFIX.pack(version.number))

    async def check_workers(self, *, timeout_s: float) -> None:
        """Ask each worker that has nothing to do for an answer, and kill one that gives none; it is replaced."""
        idle = [worker for worker, station in self._stations.items() if station.running is None and not station.loading]
        await asyncio.gather(*(worker.ask(Kind.PING, timeout_s=timeout_s) for worker in idle), return_exceptions=True)

    async def _load_first(self, version: Version, model: bytes) -> Loaded | None:
        """Return what the first worker learned of the model; None if it died of loading."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._dispatcher.stations)
        station = min(self._dispatcher.stations, key=lambda station: (station.running is not None, station.loading))
        try:
            return await self._load_on(station, version, model)
        except WorkerLost:
            version.crashes += 1
            return None

    async def _load_on(self, station: Station, version: Version, model: bytes) -> Loaded:
        worker = cast("WorkerProcess", station.runner)  # This fleet makes no other.
        bundle = version.bundle
        collation = bundle.pipeline.collation.as_json() if bundle.pipeline else None
        described = json.dumps({"collation": collation, "signature": bundle.signature.as_json()}).encode()
        prefix = wire.LOAD_PREFIX.pack(version.number, len(described))
        station.loading += 1
        before, started = worker.resident_bytes(), perf_counter()
        try:
            reply = await worker.ask(Kind.LOAD, prefix + described, model, timeout_s=self._settings.load_timeout_s)
        finally:
            station.loading -= 1
            self._dispatcher.wake()
        try:
            costs = {int(rows): float(cost) for rows, cost in reply["step_costs"].items()}
            loaded = Loaded(costs, joins=bool(reply["joins"]))
            placement = Placed(str(reply["provider"]), int(reply["nodes"]), int(reply["cpu_nodes"]), list(map(str, reply["cpu_operators"])))
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            worker.kill()  # It answers what no worker of ours does.
            raise WorkerLost from error
        station.serves[bundle.key] = placement.provider
        self._note_load(bundle, worker, before=before, started=started)
        self._note_placement(bundle, worker, placement)
        return loaded

    def _note_load(self, bundle: Bundle, worker: WorkerProcess, *, before: int | None, started: float) -> None:
        """Note what a load took. Memory that the process had freed and used again does not show: the file's size is the least."""
        after = worker.resident_bytes()
        added = after - before if after is not None and before is not None else 0
        figures = self._dispatcher.figures[bundle.key]
        figures.memory_bytes = max(figures.memory_bytes, added, bundle.size_bytes)
        figures.used_at = perf_counter()
        figures.load_s = figures.used_at - started
        figures.loads += 1

    def _note_placement(self, bundle: Bundle, worker: WorkerProcess, placement: Placed) -> None:
        """Note which of a model's nodes are on the CPU, and log it where a GPU was asked for."""
        figures = self._dispatcher.figures[bundle.key]
        figures.nodes, figures.cpu_nodes = placement.nodes, placement.cpu_nodes
        if worker.report.get("asks_cuda") and placement.cpu_nodes:
            logger.info(
                "%s on %s: %d of its %d nodes run on the CPU (%s)",
                bundle.digest[:12],
                placement.provider,
                placement.cpu_nodes,
                placement.nodes,
                ", ".join(placement.cpu_operators),
            )

    async def _keep(self, index: int) -> None:
        """Run one worker after another, for ever."""
        delay_s = _FIRST_RESTART_S
        while True:
            try:
                served = await self._run_one(index)
            except OSError as error:  # No memory, process or descriptor to be had: later there may be.
                logger.warning("worker %d cannot be started: %s", index, error)
                served = False
            self.restarts += 1
            delay_s = _FIRST_RESTART_S if served else min(2 * delay_s, _LAST_RESTART_S)
            await asyncio.sleep(delay_s)

    async def _run_one(self, index: int) -> bool:
        """Run a worker until it is lost; return whether it has answered a batch."""
        worker = self._start_worker(index=index, settings=self._settings, on_result=self._receive, on_lost=self._forget)
        self._workers[index] = worker
        station = Station(worker)
        try:
            await self._prepare(worker, station)
        except (WorkerLost, ModelLoadFailed):
            worker.kill()
            logger.warning("worker %d (pid %d) died or hung while starting", index, worker.pid)
        else:
            await worker.lost.wait()
            logger.warning("worker %d (pid %d) died or was killed; it is restarted", index, worker.pid)
        await worker.reap()
        return station.batches > 0

    async def _prepare(self, worker: WorkerProcess, station: Station) -> None:
        """Wait until the worker answers, load what the others have, and let it take batches."""
        worker.report = await worker.ask(Kind.PING, timeout_s=self._settings.start_timeout_s)
        if fault := worker.report.get("cuda_fault"):
            logger.warning("worker %d asked for CUDA and runs on the CPU: %s", worker.index, str(fault))
        refused: set[str] = set()
        # Versions may be opened while this worker loads others, hence the loop.
        while missing := [v for k, v in self.served.items() if k not in station.serves and k not in refused]:
            version = missing[0]
            try:
                await self._load_on(station, version, await asyncio.to_thread(read_model, version.bundle))
            except ModelLoadFailed as error:
                refused.add(version.bundle.key)
                self._drop_if_unserved(version, error)
            except WorkerLost as error:
                version.crashes += 1
                if version.crashes >= _MAX_LOAD_CRASHES:
                    self._drop_if_unserved(version, ModelLoadFailed("workers died or hung while loading it"))
                raise WorkerLost from error
        self._stations[worker] = station
        self._dispatcher.add_station(station)
        async with self._changed:
            self._changed.notify_all()

    def _drop_if_unserved(self, version: Version, error: ModelLoadFailed) -> None:
        key = version.bundle.key
        if not any(key in station.serves for station in self._dispatcher.stations):
            self.served.pop(key, None)
            self._dispatcher.close_version(key, error)

    def _forget(self, worker: WorkerProcess) -> None:
        station = self._stations.pop(worker, None)
        if station is not None:
            self._dispatcher.remove_station(station)

    def _receive(self, worker: WorkerProcess, frame: Frame) -> None:
        """Hand a batch's result, or its failure, to the dispatcher."""
        station = self._stations.get(worker)
        if station is None or frame.kind == Kind.DONE:  # The reply to an UNLOAD, or to an `ask` given up.
            return
        if frame.kind in {Kind.FAILED, Kind.REJECTED}:
            detail = None if frame.kind == Kind.REJECTED else str(frame.body, "utf-8", "replace")
            self._dispatcher.receive_failure(station, frame.tag, detail)
            return
        if frame.kind == Kind.INSEPARABLE:
            self._dispatcher.receive_inseparable(station, frame.tag)
            return
        if frame.kind == Kind.RESULT_TENSORS:
            ran_us, answers = wire.decode_tensor_result(frame.body)
            self._dispatcher.receive_result(station, frame.tag, answers, ran_us=ran_us)
            return
        ran_us, arrays = wire.decode_result(frame.body)
        output = arrays.get("output")
        if output is None or output.ndim == 0:
            msg = "a result without an output"
            raise WireError(msg)
        self._dispatcher.receive_result(station, frame.tag, output, ran_us=ran_us)
