"""Which programs make up the site, and how each is started."""

import sys
from typing import Final

from django.conf import settings

from marketplace.supervisor import Program

# Connections that may wait to be accepted, and how long calls in flight may take to end (s):
# less than the supervisor's own patience, so that a stop is orderly.
BACKLOG: Final = 2048
_DRAIN_S: Final = 20
# One for predictions, two for webhooks, the rest for what is quick.
_CELERY_THREADS: Final = 5


def site_programs(*, listener_fd: int) -> list[Program]:
    """Return the site's programs, the gateway first."""
    python = [sys.executable, "-m"]
    site = {"DJANGO_SETTINGS_MODULE": "marketplace.settings", "PYTHONUNBUFFERED": "1"}
    gateway = [
        *python, "uvicorn", "marketplace.asgi:application",
        "--fd", str(listener_fd),
        "--loop", "uvloop", "--http", "marketplace.http:BoundedProtocol", "--ws", "none", "--lifespan", "on",
        "--backlog", str(BACKLOG),
        # Clients keep connections for the next call; uvicorn's 5 s cuts pooled ones under their hands.
        "--timeout-keep-alive", "75",
        "--timeout-graceful-shutdown", str(_DRAIN_S),
        "--log-level", "warning", "--no-access-log", "--no-server-header",
        # Whoever sends X-Forwarded-For is believed only if TRUSTED_PROXIES names them; uvicorn would believe any local one.
        "--no-proxy-headers",
    ]  # fmt: skip
    celery = [*python, "celery", "--app", "marketplace.celery", "--quiet"]
    quiet = {
        "CELERY_SKIP_CHECKS": "1",  # They ran when `serve` started.
        # Celery dislikes root for the sake of pickle, which is off here (CELERY_ACCEPT_CONTENT).
        "PYTHONWARNINGS": "ignore:You're running the worker",
    }
    # One process without children: the embedded site has little to do off the call, but a stranger's server that
    # takes a webhook slowly, or a batch, must not keep dead processes from being reclaimed: hence threads (ADR 13).
    # A larger site runs its own workers (docs/install.md).
    worker = [
        *celery,
        "worker",
        "--pool",
        "threads",
        "--concurrency",
        str(_CELERY_THREADS),
        "--without-mingle",
        "--without-gossip",
        "--without-heartbeat",
        "--loglevel",
        "WARNING",
    ]
    schedule = ["--scheduler", "marketplace.beat:SturdyScheduler", "--schedule", str(settings.VAR_DIR / "celerybeat")]
    beat = [*celery, "beat", *schedule, "--pidfile", "", "--loglevel", "WARNING"]
    fake = [
        *python, "billing.providers.fake",
        "--port", str(settings.STRIPE_FAKE_PORT),
        "--state", str(settings.VAR_DIR / "fake-stripe.sqlite3"),
        "--webhook-url", f"http://127.0.0.1:{settings.PORT}/stripe/webhooks",
    ]  # fmt: skip
    fakes = [Program(name="FAKE stripe", argv=fake, environment=site | {"STRIPE_WEBHOOK_SECRET": settings.STRIPE_WEBHOOK_SECRET})]
    return [
        Program(name="gateway", argv=gateway, environment=site, inherits_listener=True),
        Program(name="beat", argv=beat, environment=site | quiet),
        Program(name="worker", argv=worker, environment=site | quiet),
        *(fakes if settings.PAYMENTS == "fake" else ()),
    ]
