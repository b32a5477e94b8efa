"""What goes back: answers with their headers, and refusals as RFC 9457 problems."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from marketplace.gateway.limits import WINDOW_S, RateState
from marketplace.gateway.request import Request, Send
from marketplace.problems import problem_fields, status_of

Headers: TypeAlias = list[tuple[bytes, bytes]]

_JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", b"application/problem+json")
_NO_STORE: Final = (b"cache-control", b"no-store")


@dataclass(slots=True)
class Reply:
    """A complete HTTP response; `seq` is the settled call it answers, if any."""

    status: int
    headers: Headers
    body: bytes
    seq: int | None = None
    text_bytes: int | None = None  # How much of the body, from its start, is text; None: all of it.


def answer(body: bytes, headers: Headers, *, seq: int | None = None) -> Reply:
    """Return a 200 with a JSON body."""
    return Reply(status=200, headers=[_JSON, _NO_STORE, *headers], body=body, seq=seq)


def refusal(error: Exception, request: Request) -> Reply:
    """Return the problem that an error is to its caller. Unknown errors become a plain 500."""
    fields = problem_fields(error, request_id=request.public_id)
    status = status_of(error)
    headers = [_PROBLEM, _NO_STORE, *refusal_headers(error, status)]
    return Reply(status=status, headers=headers, body=json.dumps(fields).encode())


def refusal_headers(error: Exception, status: int) -> Headers:
    """Return what a refusal says in headers, whatever its body's format."""
    headers: Headers = []
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="farebox"'))
    allow = getattr(error, "allow", None)
    if allow is not None:
        headers.append((b"allow", str(allow).encode()))
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is None and status in {429, 503}:
        retry_after_s = 1.0
    if retry_after_s is not None:  # Whole seconds, rounded up: sooner would be refused again.
        headers.append((b"retry-after", str(max(1, math.ceil(retry_after_s))).encode()))
    return headers


def rate_headers(key: RateState, organization: RateState) -> Headers:
    """Return RateLimit-Policy and RateLimit (IETF httpapi draft 10): the limit that is nearer to its end."""
    name, state = (b"key", key) if key.remaining <= organization.remaining else (b"organization", organization)
    return [_policy(name, state.limit), (b"ratelimit", b'"%b";r=%d;t=%d' % (name, state.remaining, state.reset_s))]


@lru_cache(maxsize=1024)
def _policy(name: bytes, limit: int) -> tuple[bytes, bytes]:
    return (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (name, limit, WINDOW_S))


def server_timing(stages: Sequence[tuple[bytes, float]]) -> tuple[bytes, bytes]:
    """Return Server-Timing of named stages, each in seconds (shown in milliseconds)."""
    return (b"server-timing", b", ".join([b"%b;dur=%.3f" % (name, seconds * 1000) for name, seconds in stages]))


def write_reply(reply: Reply, request: Request) -> bool:
    """Write a reply straight to its connection; False: `send_reply` must."""
    connection = request.connection
    if connection is None:
        return False
    return connection.write_reply(reply.status, [*reply.headers, (b"request-id", request.public_id.encode())], reply.body)


async def send_reply(reply: Reply, request: Request, send: Send) -> None:
    """Send a reply to the client, through ASGI."""
    headers = [
        *reply.headers,
        (b"request-id", request.public_id.encode()),
        (b"content-length", b"%d" % len(reply.body)),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
