"""What machines ask of a gateway process: is it up (/healthz), can it serve (/readyz), what did it count (/metrics)."""

import hmac
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings

from marketplace.errors import ControlDataStale, MarketplaceError, MethodNotAllowed, MetricsTokenInvalid
from marketplace.gateway.replies import Reply, refusal, send_reply
from marketplace.gateway.request import Receive, Request, Scope, Send
from marketplace.gateway.service import GatewayService
from marketplace.metrics_text import ProcessFigures, render_metrics
from marketplace.site_figures import read_site_figures

PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
# What the database told is told again for so long: many scrapers must not cost it more than one.
_SITE_CACHED_S: Final = 5.0
# Headers by which a proxy shows itself: what comes through one is not from this machine.
_FORWARDED: Final = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"forwarded", b"via")
_JSON: Final = (b"content-type", b"application/json")
_NO_STORE: Final = (b"cache-control", b"no-store")


class _Site(NamedTuple):
    """The site's figures as read some seconds ago."""

    figures: Mapping[str, tuple[str, float]]
    read_at: float


class Probes:
    """Answers the three addresses for one process."""

    def __init__(self, service: GatewayService, *, pages_respond: Callable[[], bool]) -> None:
        """Ask nothing yet.

        Args:
            service: The process's gateway, started.
            pages_respond: Whether the threads that answer pages take work up.
        """
        self._service = service
        self._pages_respond = pages_respond
        self._site = _Site({}, float("-inf"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request for one of `PATHS`."""
        request = Request(scope, receive)
        answers: Mapping[str, Callable[[Request], Awaitable[Reply]]] = {
            "/healthz": self._tell_health,
            "/readyz": self._tell_readiness,
            "/metrics": self._tell_metrics,
        }
        try:
            if request.method not in {"GET", "HEAD"}:
                raise MethodNotAllowed(allow="GET, HEAD")
            reply = await answers[request.path](request)
        except MarketplaceError as error:
            reply = refusal(error, request)
        await send_reply(reply, request, send)

    async def _tell_health(self, _request: Request) -> Reply:
        """200 whenever the process can answer at all: what cannot should be started again."""
        return _render(200, {"status": "ok"})

    async def _tell_readiness(self, _request: Request) -> Reply:
        """200 while a call would be served; else 503, and which part is not ready."""
        checks = self._service.find_unready()
        if not self._pages_respond():
            checks["pages"] = "The threads that answer pages and the REST API took nothing up for 10 s."
        shown = {name: checks.get(name, "ok") for name in ("database", "control_data", "workers", "pages")}
        return _render(503 if checks else 200, {"status": "unavailable" if checks else "ready", "checks": shown})

    async def _tell_metrics(self, request: Request) -> Reply:
        check_operator(request)
        service = self._service
        process = ProcessFigures(
            calls=service.metrics.read(),
            engine=service.engine.stats(),
            lease_held_nanos=service.meter.held_nanos,
            log_dropped=service.recorder.dropped,
            is_ready=not service.find_unready(),
        )
        site = await self._read_site()
        # In a thread: text for a thousand models takes a third of a second.
        body, content_type = await service.reader.run(render_metrics, process, site, accept=request.header(b"accept") or "")
        return Reply(status=200, headers=[(b"content-type", content_type.encode()), _NO_STORE], body=body)

    async def _read_site(self) -> Mapping[str, tuple[str, float]]:
        """Return the figures of the database; without one, none: the process's own are still told."""
        if time.monotonic() - self._site.read_at > _SITE_CACHED_S:
            self._site = _Site(self._site.figures, time.monotonic())  # Who asks meanwhile gets the old ones.
            try:
                figures = await self._service.reader.run(read_site_figures)
            except ControlDataStale:
                figures = {}
            self._site = _Site(figures, time.monotonic())
        return self._site.figures


def check_operator(request: Request) -> None:
    """Let only the operator's scraper in.

    With METRICS_TOKEN set, that is who sends it. Without, it is this machine, and only of a site that is
    itself open to this machine alone: behind a proxy everybody's address is the proxy's.

    Raises:
        MetricsTokenInvalid: it is somebody else.
    """
    if settings.METRICS_TOKEN:
        scheme, _, token = (request.header(b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode()):
            raise MetricsTokenInvalid
        return
    is_forwarded = any(request.has_header(name) for name in _FORWARDED)
    is_local_site = _is_loopback(settings.HOST) and _is_loopback(urlsplit(settings.SITE_URL).hostname or "")
    if is_forwarded or not is_local_site or not _is_loopback(request.peer):
        message = "Set METRICS_TOKEN, and send it as `Authorization: Bearer <token>`."
        raise MetricsTokenInvalid(message)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _render(status: int, fields: Mapping[str, object]) -> Reply:
    return Reply(status=status, headers=[_JSON, _NO_STORE], body=json.dumps(fields).encode())
