"""Everything the gateway runs on, built at start-up and taken down in order at the end."""

import asyncio
import gc
import logging
from contextlib import suppress
from typing import Final

from django.conf import settings

from billing.metering import Meter
from inference.engine import Engine
from inference.errors import InferenceError
from marketplace.errors import MarketplaceError
from marketplace.gateway.app import Gateway
from marketplace.gateway.background import Background
from marketplace.gateway.cache import ResponseCache
from marketplace.gateway.callers import load_caller
from marketplace.gateway.feed import ChangeFeed
from marketplace.gateway.idempotency import Claims
from marketplace.gateway.later import Accepter
from marketplace.gateway.log import RequestRecorder
from marketplace.gateway.oip.door import Door
from marketplace.gateway.oip.statistics import CallStatistics
from marketplace.gateway.options import GatewaySettings
from marketplace.gateway.patience import Patience
from marketplace.gateway.places import count_workers, find_place
from marketplace.gateway.reader import Reader
from marketplace.gateway.report import REPORTS, Report, make_figures
from marketplace.gateway.snapshot import Snapshot
from marketplace.gateway.telemetry import Telemetry
from marketplace.gateway.versions import list_versions, load_model
from marketplace.metrics import CallMetrics
from marketplace.models import ModelVersion
from marketplace.tracing import start_tracer

log = logging.getLogger(__name__)

# Calls in flight may end within this many seconds of SIGTERM; then they get 503.
DRAIN_S: Final = 20.0
_FLUSH_INTERVAL_S: Final = 10.0
_REPORT_INTERVAL_S: Final = 5.0


class GatewayService:
    """The gateway with its snapshot, meter and engine."""

    def __init__(self) -> None:
        self.reader = Reader(threads=2)
        self.metrics = CallMetrics()
        self._tracer = start_tracer()
        self.meter = Meter(committed=self.metrics.committed)
        self._place = find_place()
        workers = count_workers()
        self.engine = Engine(
            workers=workers,
            max_queue_rows=settings.MAX_QUEUE_ROWS,
            settings=self._place.settings,
            start_worker=self._place.start_worker,
            models_memory_bytes=settings.MODELS_MEMORY_MB * 2**20,
            model_idle_s=settings.MODEL_IDLE_MINUTES * 60 or None,
        )
        self.snapshot = Snapshot(
            load_caller=lambda digest: self.reader.run(load_caller, digest),
            load_model=lambda path: self.reader.run(load_model, path),
            trusted_proxies=frozenset(settings.TRUSTED_PROXIES),
        )
        cache = ResponseCache(max_bytes=settings.RESPONSE_CACHE_MB * 2**20)
        self._feed = ChangeFeed(self.snapshot, organization_changed=cache.forget)
        self.recorder = RequestRecorder(self.meter)
        self._flusher: asyncio.Task[None] | None = None
        self._reporter: asyncio.Task[None] | None = None
        self._patience = Patience()
        limits = GatewaySettings(
            max_body_bytes=settings.MAX_BODY_BYTES,
            body_timeout_s=settings.BODY_TIMEOUT_MS / 1000,
            max_rows=settings.MAX_CALL_ROWS,
            max_characters=settings.MAX_TEXT_CHARACTERS,
            default_timeout_ms=settings.DEFAULT_TIMEOUT_MS,
            max_timeout_ms=settings.MAX_TIMEOUT_MS,
            organization_concurrency=settings.ORGANIZATION_CONCURRENCY,
        )
        statistics = CallStatistics()
        self._accepter = Accepter(meter=self.meter, reader=self.reader, settings=limits)
        telemetry = Telemetry(self.metrics, logs_calls=settings.LOG_CALLS, tracer=self._tracer)
        self.gateway = Gateway(
            patience=self._patience,
            accepter=self._accepter,
            snapshot=self.snapshot,
            meter=self.meter,
            engine=self.engine,
            claims=Claims(self.meter),
            recorder=self.recorder,
            telemetry=telemetry,
            statistics=statistics,
            settings=limits,
            cache=cache,
            door=Door(
                snapshot=self.snapshot,
                engine=self.engine,
                statistics=statistics,
                settings=limits,
                list_versions=lambda caller: self.reader.run(list_versions, caller.organization_id),
                is_ready=lambda: not self.find_unready(),
            ),
        )
        self.background = Background(
            snapshot=self.snapshot,
            meter=self.meter,
            engine=self.engine,
            telemetry=telemetry,
            run=self.gateway.run,
            at_once=workers * settings.BACKGROUND_ROWS_PER_WORKER,
        )

    async def start(self) -> None:
        """Start everything, and load the public models so that the first call does not wait for it."""
        await self._feed.start()
        await self.meter.start()
        await asyncio.to_thread(self._place.join)
        await self.engine.start()
        await self._warm_up()
        # What the start built lives until the end: kept out of every garbage collection from here on.
        gc.collect()
        gc.freeze()
        # Calls make little that refers to itself: looking every 700 objects costs 3 % of a call.
        gc.set_threshold(20_000, 10, 10)
        self._patience.start()
        self._flusher = asyncio.create_task(self._flush_last_used())
        self._reporter = asyncio.create_task(self._report())

    async def stop(self) -> None:
        """Let calls in flight end, then stop everything; no process and no held money is left."""
        for task in filter(None, (self._flusher, self._reporter)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._accepter.stop()
        await self.engine.stop(drain_s=DRAIN_S)
        await asyncio.to_thread(self._place.leave)
        await self._patience.stop()
        with suppress(Exception):  # When keys were last used may be lost; stopping may not fail for it.
            await self.recorder.flush_last_used()
        await self.meter.stop()
        await self._feed.stop()
        if self._tracer:
            await asyncio.to_thread(self._tracer.stop)
        self.reader.close()

    def find_unready(self) -> dict[str, str]:
        """Return what keeps a call from being answered now, by part; nothing where it would be."""
        checks = (
            ("database", self.meter.is_writing(), "The database cannot be written, or its disk is nearly full."),
            ("control_data", self.snapshot.is_fresh(), "Keys and prices could not be read for 2 s."),
            ("workers", self.engine.is_ready(), "No inference worker is ready."),
        )
        return {name: reason for name, holds, reason in checks if not holds}

    async def _warm_up(self) -> None:
        paths = await self.reader.run(_public_paths)
        for path in paths:
            try:
                model = await self.snapshot.models.get(path)
                for version in model.versions if model else ():
                    if self.engine.has_room(version.bundle):  # Else its first caller waits, and not those of a model before it.
                        await self.engine.load(version.bundle)
            except (InferenceError, MarketplaceError) as error:  # Its callers are told; others can be served.
                log.warning("Model %s could not be loaded: %s", path, error)

    async def _flush_last_used(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_INTERVAL_S)
            try:
                await self.recorder.flush_last_used()
            except Exception as error:  # noqa: BLE001 (tried again in 10 s with newer times)
                log.warning("When keys were last used could not be written: %s", error)

    async def _report(self) -> None:
        """Tell the operator's front page how this process does; one row that is replaced."""
        while True:
            figures = make_figures(self.metrics.read(), self.engine.stats(), log_dropped=self.recorder.dropped)
            with suppress(Exception):  # The next one tells the same and more; why it failed, the commit thread says.
                await self.meter.submit(REPORTS, Report(self.meter.process_id, figures))
            await asyncio.sleep(_REPORT_INTERVAL_S)


def _public_paths() -> list[str]:
    live = ModelVersion.objects.filter(state=ModelVersion.State.LIVE, model__public=True)
    return sorted({version.model.path for version in live.select_related("model__owner")})
