"""The fake's front: keys, routes, idempotency and faults, as Stripe's API has them."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from billing.providers.fake import delivery, pages
from billing.providers.fake.errors import ApiError
from billing.providers.fake.parameters import check_form, load_type, parse_form
from billing.providers.fake.routes import ROUTES, Route
from billing.providers.fake.store import Obj, shown
from billing.providers.fake.world import Fault, World

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

_LARGEST: Final = 1024 * 1024


class FakeStripe:
    """The ASGI application."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._deliverer: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            body = await _read(receive)
            status, headers, content = await self._answer(scope, body)
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send(
                {"type": "http.response.start", "status": status, "headers": [*raw, (b"content-length", str(len(content)).encode())]}
            )
            await send({"type": "http.response.body", "body": content})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._deliverer = asyncio.create_task(delivery.deliver_forever(self.world))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._deliverer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._deliverer
        self.world.store.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, body: bytes) -> tuple[int, dict[str, str], bytes]:
        method, path, query = scope["method"], scope["path"], scope["query_string"].decode()
        if not path.startswith(("/v1/", "/v2/")):
            return pages.answer(self.world, method, path, body.decode())
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        self.world.requests.append(f"{method} {path}")
        status, answer, more = await self._answer_api(method, path, query if method == "GET" else body.decode(), headers)
        replied = {
            "content-type": "application/json",
            "request-id": "req_fake",
            "stripe-version": headers.get("stripe-version", ""),
            **more,
        }
        return status, replied, json.dumps(answer).encode()

    async def _answer_api(self, method: str, path: str, form: str, headers: Mapping[str, str]) -> tuple[int, Obj, dict[str, str]]:
        account = headers.get("stripe-account", "")
        try:
            _check_key(headers)
            key = headers.get("idempotency-key", "") if method == "POST" else ""
            if key:
                return await self._answer_once(key, method, path, form, account)
            return await self._answer_faulty(method, path, form, account)
        except ApiError as error:
            return error.status, {"error": shown(error.error)}, {}

    async def _answer_once(self, key: str, method: str, path: str, form: str, account: str) -> tuple[int, Obj, dict[str, str]]:
        """Answer a key's first request, and repeat that answer to the others.

        Source: docs.stripe.com/api/idempotent_requests. What fails before the endpoint begins
        (a parameter, the rate) is not kept; every later answer is, a 500 too.
        """
        fingerprint = hashlib.sha256(f"{method} {path} {account}\n{form}".encode()).hexdigest()
        if len(key) > 255:
            message = "Idempotency keys have at most 255 characters."
            raise ApiError(message, kind="idempotency_error")
        if found := self.world.store.find_answer(key):
            if found[0] != fingerprint:
                message = (
                    f"Keys for idempotent requests can only be used with the same parameters they were first used with. "
                    f"Try using a key other than '{key}' if you meant to execute a different request."
                )
                raise ApiError(message, kind="idempotency_error")
            return found[1], found[2], {"idempotent-replayed": "true", "stripe-should-retry": "false"}
        if key in self.world.running:
            message = "There is currently another in-progress request using this Idempotent Key."
            raise ApiError(message, status=409, code="idempotency_key_in_use")
        self.world.running.add(key)
        try:
            status, answer, more = await self._answer_faulty(method, path, form, account, key=key, fingerprint=fingerprint)
        finally:
            self.world.running.discard(key)
        return status, answer, more

    async def _answer_faulty(
        self, method: str, path: str, form: str, account: str, *, key: str = "", fingerprint: str = ""
    ) -> tuple[int, Obj, dict[str, str]]:
        fault = self.world.faults.take(f"{method} {path}")
        if fault and fault.kind == "rate_limit":
            message = "Request rate limit exceeded."
            raise ApiError(message, status=429, code="rate_limit", kind="invalid_request_error")
        if fault and fault.kind == "conflict":
            message = "This object cannot be accessed right now because another API request is currently accessing it."
            raise ApiError(message, status=409, code="lock_timeout", kind="invalid_request_error")
        if fault and fault.kind in {"timeout_before", "slow"}:
            await self.world.faults.hang(fault.seconds)
        route, ids = _find_route(method, path)
        params = check_form(parse_form(form), load_type(route.type))
        if account:
            self.world.store.get("account", account)
            params["_account"] = account  # In whose name it is asked.
        if key:
            params["_key"] = key
        status, answer = self._run(fault, route, params, ids)
        if key:
            self.world.store.keep_answer(key, fingerprint, status, answer)
        if method == "POST" and self.world.faults.before_the_answer:
            await delivery.deliver_due(self.world)
        if fault and fault.kind == "timeout_after":
            await self.world.faults.hang(fault.seconds)
        return status, answer, {"stripe-should-retry": "false"} if status >= 500 else {}

    def _run(self, fault: Fault | None, route: Route, params: Obj, ids: tuple[str, ...]) -> tuple[int, Obj]:
        broken = {"error": {"type": "api_error", "message": "An unknown error occurred. (FAKE: on demand.)"}}
        if fault and fault.kind == "error_500":
            return 500, broken
        try:
            answer = route.handler(self.world, params, *ids)
        except ApiError as error:
            return error.status, {"error": shown(error.error)}
        if fault and fault.kind == "error_500_after":
            return 500, broken
        return 200, _expanded(self.world, answer, params.get("expand", ()))


def _check_key(headers: Mapping[str, str]) -> None:
    if not headers.get("authorization", "").startswith("Bearer sk_test_"):
        message = "Invalid API Key provided."
        raise ApiError(message, status=401)


def _find_route(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    for route in ROUTES:
        if route.method == method and (match := route.pattern.fullmatch(path)):
            return route, match.groups()
    message = f"Unrecognized request URL ({method}: {path})."
    raise ApiError(message, status=404)


_EXPANDABLE: Final = {"latest_charge": "charge", "payment_intent": "payment_intent", "charge": "charge", "customer": "customer"}


def _expanded(world: World, answer: Obj, paths: Any) -> Obj:
    """Return the answer as shown, with the ids that were asked for replaced by their objects."""
    answer = shown(answer)
    for path in paths:
        _expand(world, answer, path.split("."))
    return answer


def _expand(world: World, thing: Any, names: list[str]) -> None:
    name, *rest = names
    if isinstance(thing, list):
        for item in thing:
            _expand(world, item, names)
        return
    value = thing.get(name)
    if isinstance(value, str):
        if name not in _EXPANDABLE:
            message = f"This property cannot be expanded ({name})."
            raise ApiError(message)
        value = thing[name] = shown(world.store.get(_EXPANDABLE[name], value))
    if rest and value is not None:
        _expand(world, value, rest)


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > _LARGEST or not message.get("more_body"):
            return body[:_LARGEST]
