"""The front door: model calls go to the gateway, everything else to Django under WSGI (ADR 1)."""

import logging

from marketplace.wsgi import application as django_application  # Sets Django up: keep it first.

from marketplace.django_bridge import DjangoBridge  # isort: skip
from marketplace.gateway.request import Receive, Scope, Send  # isort: skip
from marketplace.gateway.routing import is_gateways  # isort: skip
from marketplace.gateway.service import GatewayService  # isort: skip
from marketplace.inner_door import PATH as INNER_DOOR  # isort: skip
from marketplace.probes import PATHS, Probes  # isort: skip

log = logging.getLogger(__name__)


class FrontDoor:
    """The ASGI application: one per process, with the gateway service it starts and stops."""

    def __init__(self) -> None:
        self._service: GatewayService | None = None
        self._probes: Probes | None = None
        self._django = DjangoBridge(django_application)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Route one connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] != "http":
            return
        elif self._service and is_gateways(scope["method"], scope["path"]):
            await self._service.gateway(scope, receive, send)
        elif self._service and scope["method"] == "POST" and scope["path"] == INNER_DOOR:
            await self._service.background(scope, receive, send)
        elif self._probes and scope["path"] in PATHS:
            await self._probes(scope, receive, send)
        else:
            await self._django(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        service = GatewayService()
        try:
            await service.start()
        except Exception as error:
            log.exception("The gateway could not start")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        self._service, self._probes = service, Probes(service, pages_respond=self._django.is_responsive)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await service.stop()
        await send({"type": "lifespan.shutdown.complete"})


application = FrontDoor()
