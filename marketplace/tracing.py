"""Calls as OpenTelemetry traces, where OTEL_EXPORTER_OTLP_ENDPOINT is set: a span per call, with its stages below it.

A trace is made of what the line measured anyway, after the reply was sent: nothing is opened or closed while
a call runs. Without an endpoint this module imports nothing and the gateway has no tracer to ask.
"""

import random
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

# A trace costs some 350 us of CPU, and whoever sends a sampled `traceparent` asks for one: no more than
# so many a second, whoever asks. The rest is only counted.
_MAX_PER_S: Final = 100
# Spans wait this long for others to be sent with them.
_EXPORT_MS: Final = 2_000
_EXPORT_TIMEOUT_S: Final = 5


class Trace(NamedTuple):
    """One call that has ended."""

    name: str
    began: float  # Seconds of `time.perf_counter`.
    ended: float
    stages: Sequence[tuple[bytes, float]]  # Name and seconds, one after the other from `began` on.
    attributes: Mapping[str, str | int]
    error: str  # The problem's code of a call that failed on our side; else empty.


class Tracer:
    """Sends traces to a collector, in a thread of its own."""

    def __init__(self, endpoint: str, *, service: str, ratio: float) -> None:
        """Connect to nothing yet: a collector that is away costs its traces, and no call.

        Args:
            endpoint: The collector's base address, for OTLP over HTTP.
            service: What it knows this site by.
            ratio: Share of the calls to trace that bring no decision of their caller's, 0 to 1.

        Raises:
            ImproperlyConfigured: the extra `otel` is not installed.
        """
        try:  # Not at the top: most sites trace nothing, and the import takes 0.3 s.
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 (see above)
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415
            from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context  # noqa: PLC0415
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415
        except ImportError as error:
            message = "OTEL_EXPORTER_OTLP_ENDPOINT is set, but the extra is not installed: pip install 'farebox[otel]'."
            raise ImproperlyConfigured(message) from error
        self._server, self._status, self._below = SpanKind.SERVER, StatusCode.ERROR, set_span_in_context
        self._extract = TraceContextTextMapPropagator().extract
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_TIMEOUT_S)
        # We choose what to trace before it costs anything; the SDK takes all that it gets.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_MS))
        self._tracer = self._provider.get_tracer("farebox")
        self._ratio = ratio
        self._second, self._left = 0, _MAX_PER_S
        self.dropped = 0  # Calls that were to be traced, and were too many.

    def wants(self, traceparent: str | None) -> bool:
        """Whether to trace a call: as its caller decided, or by chance. Counts it against the second's limit."""
        if traceparent is None:
            if random.random() >= self._ratio:  # noqa: S311 (no secret)
                return False
        elif not is_sampled(traceparent):
            return False
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._left = second, _MAX_PER_S
        if self._left == 0:
            self.dropped += 1
            return False
        self._left -= 1
        return True

    def trace(self, call: Trace, *, parent: Mapping[str, str]) -> None:
        """Send a call that has ended.

        Args:
            call: What there is to tell.
            parent: Its traceparent and tracestate headers, as far as it had them.
        """
        # The line measures by perf_counter; traces are in Unix time.
        offset = time.time() - time.perf_counter()
        moment = call.began + offset
        span = self._tracer.start_span(
            call.name, context=self._extract(parent), kind=self._server, start_time=_nanos(moment), attributes=call.attributes
        )
        below = self._below(span)
        for name, seconds in call.stages:
            stage = self._tracer.start_span(name.decode(), context=below, start_time=_nanos(moment))
            moment += seconds
            stage.end(_nanos(moment))
        if call.error:
            span.set_status(self._status, call.error)
        span.end(_nanos(call.ended + offset))

    def stop(self) -> None:
        """Send what waits. Blocks, for as long as the collector takes and no longer than the export's timeout."""
        self._provider.shutdown()


def start_tracer() -> Tracer | None:
    """Return the tracer that the settings ask for; None where they ask for none.

    Raises:
        ImproperlyConfigured: the extra `otel` is not installed.
    """
    if not settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        return None
    return Tracer(settings.OTEL_EXPORTER_OTLP_ENDPOINT, service=settings.OTEL_SERVICE_NAME, ratio=settings.OTEL_SAMPLE_PERCENT / 100)


def is_sampled(traceparent: str) -> bool:
    """Whether a caller asks for its call to be traced. What is not a `traceparent` asks for nothing.

    Source: W3C Trace Context, section 3.2: version, trace id, parent id and flags in hexadecimal, joined by dashes.
    """
    parts = traceparent.split("-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2]:
        return False
    try:
        return bool(int(parts[3], 16) & 1)
    except ValueError:
        return False


def _nanos(seconds: float) -> int:
    return int(seconds * 1e9)
