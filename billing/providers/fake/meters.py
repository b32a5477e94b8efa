"""Billing Meters of the fake: meters, meter events, what they come to, and the thin events that tell what was not counted."""

import time
from datetime import UTC, datetime
from typing import Any, Final

from billing.periods import render_moment
from billing.providers.fake.errors import ApiError
from billing.providers.fake.store import Obj, shown
from billing.providers.fake.world import World

_DAY_S: Final = 86_400
_PAST_S: Final = 35 * _DAY_S
_FUTURE_S: Final = 300
# Identifiers are unique for at least so long.
_UNIQUE_S: Final = _DAY_S
_MAX_DIGITS: Final = 15
_WINDOWS: Final = {None: 60, "hour": 3600, "day": _DAY_S}
_ERROR: Final = "v1.billing.meter.error_report_triggered"
_NO_METER: Final = "v1.billing.meter.no_meter_found"


def create_meter(world: World, params: Obj) -> Obj:
    """POST /v1/billing/meters: one active meter per event name."""
    if find_meter(world, params["event_name"]):
        message = f"There is already an active meter with the event name {params['event_name']}."
        raise ApiError(message, param="event_name", code="resource_already_exists")
    fields = {
        "customer_mapping": params.get("customer_mapping") or {"event_payload_key": "stripe_customer_id", "type": "by_id"},
        "default_aggregation": params["default_aggregation"],
        "display_name": params["display_name"],
        "event_name": params["event_name"],
        "event_time_window": params.get("event_time_window"),
        "status": "active",
        "status_transitions": {"deactivated_at": None},
        "updated": int(time.time()),
        "value_settings": params.get("value_settings") or {"event_payload_key": "value"},
    }
    return world.store.add("billing.meter", "mtr_test", fields)


def list_meters(world: World, params: Obj) -> Obj:
    """GET /v1/billing/meters."""
    found = world.store.all("billing.meter", lambda one: params.get("status") in {None, one["status"]})
    return world.store.page(found, params, "/v1/billing/meters")


def get_meter(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v1/billing/meters/{id}."""
    return world.store.get("billing.meter", identity)


def deactivate_meter(world: World, _params: Obj, identity: str) -> Obj:
    """POST /v1/billing/meters/{id}/deactivate: events that come later are not counted."""
    meter = world.store.get("billing.meter", identity)
    meter["status"] = "inactive"
    return world.store.save(meter)


def find_meter(world: World, event_name: str) -> Obj | None:
    """Return the active meter of an event name, or None."""
    return next(iter(world.store.all("billing.meter", lambda one: (one["event_name"], one["status"]) == (event_name, "active"))), None)


def create_event(world: World, params: Obj) -> Obj:
    """POST /v1/billing/meter_events. What is wrong with its customer, value or meter is found later, and told by a thin event."""
    now = int(time.time())
    identifier = params.get("identifier") or f"fake_{time.time_ns()}"
    if len(identifier) > 100:
        message = "Identifiers have at most 100 characters."
        raise ApiError(message, param="identifier")
    moment = params.get("timestamp", now)
    if moment < now - _PAST_S:
        message = "The timestamp must be within the past 35 days."
        raise ApiError(message, param="timestamp", code="timestamp_too_far_in_past")
    if moment > now + _FUTURE_S:
        message = "The timestamp must be at most 5 minutes in the future."
        raise ApiError(message, param="timestamp", code="timestamp_in_future")
    if world.store.all("billing.meter_event", lambda one: one["identifier"] == identifier and one["created"] > now - _UNIQUE_S):
        message = f"An event already exists with identifier {identifier}."
        raise ApiError(message, param="identifier", code="duplicate_meter_event")
    fields = {"event_name": params["event_name"], "identifier": identifier, "payload": params["payload"], "timestamp": moment}
    made = world.store.add("billing.meter_event", "mev", {**fields, "_meter": None, "_customer": None, "_value": 0})
    _count(world, made, key=params.get("_key", ""))
    return {name: value for name, value in made.items() if name != "id"}


def _count(world: World, made: Obj, *, key: str) -> None:
    meter, payload = find_meter(world, made["event_name"]), made["payload"]
    fault, value = "", payload.get(meter["value_settings"]["event_payload_key"], "") if meter else ""
    customer = payload.get(meter["customer_mapping"]["event_payload_key"], "") if meter else ""
    if meter is None:
        meter = next(iter(world.store.all("billing.meter", lambda one: one["event_name"] == made["event_name"])), None)
        fault = "archived_meter" if meter else "no_meter"
    elif not customer:
        fault = "meter_event_no_customer_defined"
    elif world.store.find("customer", customer) is None:
        fault = "meter_event_customer_not_found"
    elif not value.lstrip("-").isdigit():
        fault = "meter_event_invalid_value"
    elif len(value.lstrip("-")) > _MAX_DIGITS:
        fault = "meter_event_value_too_many_digits"
    elif world.faults.uncounted:
        world.faults.uncounted -= 1
        fault = "meter_event_customer_not_found"
    if fault:
        _tell(world, meter, fault, key=key or made["identifier"])
        return
    assert meter is not None
    made.update(_meter=meter["id"], _customer=customer, _value=int(value))
    world.store.save(made)


def _tell(world: World, meter: Obj | None, code: str, *, key: str) -> None:
    sample = {"error_message": f"FAKE: {code.replace('_', ' ')}.", "request": {"identifier": key}}
    moment = _iso(time.time())
    reason = {"error_count": 1, "error_types": [{"code": code, "error_count": 1, "sample_errors": [sample]}]}
    fields: dict[str, Any] = {
        "created": moment,
        "type": _ERROR if meter else _NO_METER,
        "_data": {
            "developer_message_summary": "There is 1 invalid event",
            "reason": reason,
            "validation_start": moment,
            "validation_end": moment,
        },
    }
    if meter:
        fields["related_object"] = {"id": meter["id"], "type": "billing.meter", "url": f"/v1/billing/meters/{meter['id']}"}
    event = world.store.add("v2.core.event", "evt_test", fields)
    world.queue(event)


def list_summaries(world: World, params: Obj, identity: str) -> Obj:
    """GET /v1/billing/meters/{id}/event_summaries: by hour, by day, or in one sum."""
    meter = world.store.get("billing.meter", identity)
    world.store.get("customer", params["customer"], param="customer")
    start, end, window = params["start_time"], params["end_time"], params.get("value_grouping_window")
    for name in ("start_time", "end_time"):
        if params[name] % _WINDOWS[window]:
            message = f"{name} must align with {window or 'minute'} boundaries."
            raise ApiError(message, param=name)
    if end <= start:
        message = "end_time must be after start_time."
        raise ApiError(message, param="end_time")
    events = world.store.all(
        "billing.meter_event",
        lambda one: one["_meter"] == meter["id"] and one["_customer"] == params["customer"] and start <= one["timestamp"] < end,
    )
    step = _WINDOWS[window] if window else end - start
    sums: dict[int, int] = {}
    for event in events:
        first = start + (event["timestamp"] - start) // step * step
        sums[first] = sums.get(first, 0) + event["_value"]
    found = [
        {
            "id": f"mtrusg_{meter['id'][-8:]}_{first}",
            "object": "billing.meter_event_summary",
            "aggregated_value": float(sums[first]),
            "end_time": first + step,
            "livemode": False,
            "meter": meter["id"],
            "start_time": first,
        }
        for first in sorted(sums, reverse=True)
    ]
    return world.store.page(found, params, f"/v1/billing/meters/{identity}/event_summaries")


# ---------------------------------------------------------------- Thin events


def get_event(world: World, _params: Obj, identity: str) -> Obj:
    """GET /v2/core/events/{id}: what its notification is about."""
    event = world.store.get("v2.core.event", identity)
    return {**event, "data": event["_data"]}


def list_events(world: World, params: Obj) -> Obj:
    """GET /v2/core/events."""
    since = (params.get("created") or {}).get("gte", "")
    found = world.store.all(
        "v2.core.event",
        lambda one: (
            one["type"] in (params.get("types") or [one["type"]])
            and one["created"] >= since
            and params.get("object_id") in {None, one.get("related_object", {}).get("id")}
        ),
    )
    return {"data": [shown(one) for one in found[: params.get("limit", 20)]], "next_page_url": None, "previous_page_url": None}


def _iso(seconds: float) -> str:
    return render_moment(datetime.fromtimestamp(seconds, UTC), timespec="milliseconds")
