"""The Open Inference Protocol's addresses that run nothing: health, metadata, configuration, statistics, index."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from inference.batching import BatchLimits
from inference.engine import Engine
from marketplace.errors import ModelNotFound, NotOffered
from marketplace.gateway.callers import Caller
from marketplace.gateway.oip.description import configure_model, describe_model, describe_server
from marketplace.gateway.oip.responses import render_json
from marketplace.gateway.oip.statistics import CallStatistics
from marketplace.gateway.options import GatewaySettings
from marketplace.gateway.replies import Reply
from marketplace.gateway.routing import Route
from marketplace.gateway.snapshot import Snapshot
from marketplace.gateway.versions import ListedVersion, ServedVersion

# Answered to anyone, without a key: what a load balancer asks.
HEALTH_ACTIONS: Final = frozenset({"live", "ready"})


class Door:
    """Answers what is asked about the site and its models."""

    def __init__(
        self,
        *,
        snapshot: Snapshot,
        engine: Engine,
        statistics: CallStatistics,
        settings: GatewaySettings,
        list_versions: Callable[[Caller], Awaitable[Sequence[ListedVersion]]],
        is_ready: Callable[[], bool],
    ) -> None:
        self._snapshot = snapshot
        self._engine = engine
        self._statistics = statistics
        self._settings = settings
        self._list_versions = list_versions
        self._is_ready = is_ready

    def tell_health(self, route: Route) -> Reply:
        """Answer 200, or 400 while no call could be served; `live` is answered by whoever can answer."""
        return _status(ok=route.action == "live" or self._is_ready())

    async def answer(self, route: Route, caller: Caller) -> Reply:
        """Answer a caller who was let in.

        Raises:
            ModelNotFound: the model or version is not there, or not the caller's to call.
            NotOffered: the address is for who runs the server.
        """
        if route.action == "model_ready":
            return await self._tell_readiness(route, caller)
        if route.action == "server":
            return render_json(describe_server())
        if route.action == "index":
            return render_json([_listed(version) for version in await self._list_versions(caller) if caller.may_call(version.model_path)])
        if route.action == "statistics":
            return render_json(await self._tell_statistics(route, caller))
        if route.action == "not_offered":
            raise NotOffered
        versions = await self._find_versions(route, caller)
        if route.action == "config":
            return render_json(self._configure(versions[0]))
        callable_versions = await self._snapshot.find_versions(caller, route.model_path)
        return render_json(describe_model(versions[0], numbers=sorted(version.number for version in callable_versions)))

    async def _find_versions(self, route: Route, caller: Caller) -> Sequence[ServedVersion]:
        """Return the version named, or all, the one that most calls get first.

        Raises:
            ModelNotFound: there is none.
        """
        versions = await self._snapshot.find_versions(caller, route.model_path)
        found = [version for version in versions if route.number in (None, version.number)]
        if not found:
            raise ModelNotFound
        return found

    async def _tell_readiness(self, route: Route, caller: Caller) -> Reply:
        try:
            await self._find_versions(route, caller)
        except ModelNotFound:
            return _status(ok=False)
        return _status(ok=self._is_ready())

    async def _tell_statistics(self, route: Route, caller: Caller) -> dict[str, Any]:
        if not route.model_path:
            called = self._statistics.called_skus(caller.tenant)
            return self._statistics.render(caller.tenant, [sku for sku in called if caller.may_call(sku.rpartition("@")[0])])
        versions = await self._find_versions(route, caller)
        return self._statistics.render(caller.tenant, [version.sku for version in versions])

    def _configure(self, version: ServedVersion) -> dict[str, Any]:
        stats = self._engine.stats()
        loaded = (one.provider for one in stats.versions if one.key == version.bundle.key and one.loaded)
        limits = version.bundle.limits or BatchLimits()
        return configure_model(
            version,
            max_rows=self._settings.max_rows,
            max_queue_delay_us=limits.max_queue_delay_us,
            workers=stats.ready_workers,
            provider=next(loaded, stats.provider),  # Of one that is not loaded: where the others are.
        )


def _listed(version: ListedVersion) -> dict[str, str]:
    return {"name": version.model_path, "version": str(version.number), "state": "READY", "reason": ""}


def _status(*, ok: bool) -> Reply:
    return Reply(status=200 if ok else 400, headers=[(b"cache-control", b"no-store")], body=b"")
