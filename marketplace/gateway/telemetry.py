"""What is told of a call when it has ended: counted always, logged and traced where that is switched on."""

import logging
import time
from typing import Final

from billing.ids import public_id
from marketplace.gateway.exchange import Exchange
from marketplace.gateway.replies import Reply
from marketplace.metrics import CallMetrics
from marketplace.tracing import Trace, Tracer

_calls: Final = logging.getLogger("farebox.calls")
# What an answer that is not charged now is, by its address. All others tell of the site or of a model.
_OUTCOMES: Final = {"predict": "replayed", "infer": "replayed", "explain": "replayed", "estimate": "estimated"}


class Telemetry:
    """Tells of every call of this process."""

    def __init__(self, metrics: CallMetrics, *, logs_calls: bool, tracer: Tracer | None) -> None:
        """Tell nothing yet.

        Args:
            metrics: Where calls are counted.
            logs_calls: Whether each is a line in the log as well.
            tracer: What traces some of them, if anything does.
        """
        self._metrics = metrics
        self._logs_calls = logs_calls
        self._tracer = tracer

    def refused(self, code: str) -> None:
        """Count a refusal by its problem's code."""
        self._metrics.refused(code)

    def ended(self, exchange: Exchange, reply: Reply | None) -> None:
        """Tell of a call that has its reply; None where it was cancelled before it had one."""
        model, version = exchange.served
        if reply is not None and reply.seq is not None:  # Settled.
            total_s = exchange.elapsed_us() / 1e6
            self._metrics.answered(model, version, exchange.stages, total_s, exchange.units, exchange.charge_nanos)
            outcome = "answered"
        else:
            outcome = _outcome(exchange, reply)
            self._metrics.ended(model, version, outcome)
        if self._logs_calls:
            _log(exchange, reply, outcome)
        if self._tracer is not None and self._tracer.wants(exchange.request.header(b"traceparent")):
            _trace(self._tracer, exchange, reply, outcome)


def _outcome(exchange: Exchange, reply: Reply | None) -> str:
    if reply is None:
        return "cancelled"
    if reply.status >= 400:
        return "failed" if reply.status >= 500 else "refused"
    if reply.status == 202:
        return "accepted"
    return _OUTCOMES.get(exchange.route.action if exchange.route else "", "described")


def _log(exchange: Exchange, reply: Reply | None, outcome: str) -> None:
    """Write a line of what the request log knows: 100 us of CPU, so it is off unless LOG_CALLS says otherwise."""
    model, version = exchange.served
    fields: dict[str, object] = {"outcome": outcome, "status": reply.status if reply else 0}
    if model:
        fields |= {"model": model, "version": version}
    if exchange.caller is not None:
        fields["key"] = public_id("key", exchange.caller.key_id)  # Its id, not its secret.
    if outcome == "answered":
        fields |= {"units": exchange.units, "charge_nanos": exchange.charge_nanos}
    fields |= {f"{name.decode()}_us": int(seconds * 1e6) for name, seconds in exchange.stages}
    _calls.info("call", extra={"fields": fields | {"total_us": exchange.elapsed_us()}})


def _trace(tracer: Tracer, exchange: Exchange, reply: Reply | None, outcome: str) -> None:
    """Send the call as a trace. Like the metrics, it names no tenant."""
    request, (model, version) = exchange.request, exchange.served
    attributes: dict[str, str | int] = {"farebox.request_id": request.public_id, "farebox.outcome": outcome}
    if reply is not None:
        attributes["http.response.status_code"] = reply.status
    if model:
        attributes |= {"farebox.model": model, "farebox.version": version}
    if exchange.units:
        attributes["farebox.units"] = exchange.units
    name = exchange.route.action if exchange.route else "unknown"
    parent = {header: value for header in ("traceparent", "tracestate") if (value := request.header(header.encode()))}
    error = outcome if outcome == "failed" else ""
    tracer.trace(Trace(name, request.started, time.perf_counter(), exchange.stages, attributes, error), parent=parent)
