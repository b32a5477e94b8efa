"""One line per event, with the request it belongs to: text for people, JSON for programs. Standard library only.

Lines hold no payloads and no keys. What writes one must see to that itself; should a key of ours slip into a line
all the same, in an exception's words, its secret part is cut out here.
"""

import json
import logging
import re
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from uuid import UUID

from billing.periods import render_moment

# fb_sk_live_ and 38 characters, of which the first four are shown on pages, too; Stripe's and webhooks' secrets.
_SECRETS: Final = re.compile(
    r"(fb_(?:sk|rk|mk)_(?:live|test)_[0-9A-Za-z]{4})[0-9A-Za-z]{34}|\b((?:sk|rk)_(?:live|test)_|whsec_)[0-9A-Za-z+/=_]{8,}"
)


class Named(Protocol):
    """A request, as far as logs care."""

    id: UUID

    @property
    def public_id(self) -> str:
        """The Request-Id."""
        ...


# The request that the running code works for. The object, not its text: that is made only for a line.
_current: ContextVar[Named | None] = ContextVar("request", default=None)


def begin_request(request: Named) -> None:
    """Note what the code that runs from here on, in this task and the threads it asks, works for."""
    _current.set(request)


def current_request() -> Named | None:
    """Return the request that the running code works for, if any."""
    return _current.get()


def hide_secrets(text: str) -> str:
    """Return a text with the secret parts of keys cut out."""
    return _SECRETS.sub(lambda match: f"{match[1] or match[2]}[hidden]", text)


class RequestIds(logging.Filter):
    """Gives each record `request_id`, empty outside of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        if not hasattr(record, "request_id"):
            request = _current.get()
            record.request_id = request.public_id if request else ""
        return True


class TextLines(logging.Formatter):
    """Time, level, logger, message; then the fields and the request, where there are any."""

    converter = time.gmtime  # type: ignore[assignment]  # As the documentation of logging has it.
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows on lines of its own."""
        fields: dict[str, Any] = getattr(record, "fields", {})
        if request_id := getattr(record, "request_id", ""):
            fields = {**fields, "request_id": request_id}
        record.tail = "".join(f" {name}={value}" for name, value in fields.items())
        return hide_secrets(super().format(record))


class JsonLines(logging.Formatter):
    """The same as one JSON object on one line, a traceback and all."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        extra: dict[str, Any] = dict(getattr(record, "fields", {}))
        if request_id := getattr(record, "request_id", ""):
            extra["request_id"] = request_id
        if record.exc_info:
            extra["error"] = self.formatException(record.exc_info)
        return render_line(
            record.getMessage(), level=record.levelname, logger=record.name, at=record.created, process=record.process, **extra
        )


def render_line(message: str, *, logger: str, level: str = "INFO", at: float | None = None, **fields: Any) -> str:
    """Return one event as a line of JSON.

    Args:
        message: What happened.
        logger: Who says so.
        level: How bad it is.
        at: Unix seconds; None: now.
        fields: What else there is to say of it.
    """
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    said = {"time": render_moment(moment, timespec="milliseconds"), "level": level, "logger": logger, "message": message}
    return hide_secrets(json.dumps(said | fields, default=str, ensure_ascii=False))


def logging_options(*, form: str, level: str, calls: bool) -> dict[str, Any]:
    """Return what Django's LOGGING is set to.

    Args:
        form: "text" or "json".
        level: Of everything that has no level of its own here.
        calls: Whether each model call is a line.
    """
    to_root: dict[str, Any] = {"handlers": [], "propagate": True}  # Instead of handlers of their own.
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_ids": {"()": "marketplace.logs.RequestIds"}},
        "formatters": {
            "text": {"()": "marketplace.logs.TextLines", "format": "{asctime} {levelname} {name}: {message}{tail}", "style": "{"},
            "json": {"()": "marketplace.logs.JsonLines"},
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": form, "filters": ["request_ids"]}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "uvicorn": to_root | {"level": "WARNING"},
            "uvicorn.error": to_root | {"level": "WARNING"},
            "django.request": {"level": "ERROR"},  # Not each 404: whoever guesses addresses would fill the disk.
            "farebox.calls": {"level": "INFO" if calls else "WARNING"},
        },
    }
