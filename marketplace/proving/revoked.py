"""Promise 9: a revoked key fails everywhere within one second.

Two gateways on one database serve callers of a key without a pause; the key is revoked at one of them. No call that is
begun a second later or more is answered by either, nor does the REST API take the key.
"""

import threading
import time
from dataclasses import dataclass
from typing import Final

from billing.ids import public_id
from marketplace.proving.calls import Caller
from marketplace.proving.findings import Untried, require
from marketplace.proving.site import Site, make_caller, serving

_KEYS: Final = 5
_GATEWAYS: Final = 2
_CALLERS: Final = 3  # Of each gateway.
_BEFORE_S: Final = 0.7
_AFTER_S: Final = 2.5
_LIMIT_S: Final = 1.0
TRIED: Final = f"{_KEYS} keys revoked while {_CALLERS} callers at each of {_GATEWAYS} gateways call without a pause"


@dataclass(frozen=True, slots=True)
class _Said:
    began: float  # By the monotonic clock.
    status: int
    code: str


def _revoke_under_load(site: Site, slug: str) -> float:
    """Revoke a key under load; return how long after that the last call was begun that was answered."""
    _, key, secret = make_caller(slug)
    said: list[_Said] = []
    stop = threading.Event()

    def call_on(port: int) -> None:
        caller = Caller(port, secret)
        while not stop.is_set():
            began = time.monotonic()
            answer = caller.predict()
            said.append(_Said(began, answer.status, answer.code))

    threads = [threading.Thread(target=call_on, args=(port,)) for port in site.ports for _ in range(_CALLERS)]
    for thread in threads:
        thread.start()
    time.sleep(_BEFORE_S)
    answer = Caller(site.ports[0], secret).delete(f"/v1/keys/{public_id('key', key.pk)}")
    revoked = time.monotonic()
    time.sleep(_AFTER_S)
    stop.set()
    for thread in threads:
        thread.join()
    if answer.status not in {200, 204}:
        message = f"The key could not be revoked: {answer.status}"
        raise Untried(message)
    if not any(one.status == 200 and one.began < revoked for one in said):
        message = f"Nothing was answered before the key was revoked: {sorted({one.status for one in said})}"
        raise Untried(message)
    _check_last(said, since=revoked + _LIMIT_S)
    for port in site.ports:
        status = Caller(port, secret).get("/v1/balance").status
        require(status == 401, f"the REST API answers {status} to a revoked key")
    return max(0.0, *(one.began - revoked for one in said if one.status == 200))


def _check_last(said: list[_Said], *, since: float) -> None:
    late = [one for one in said if one.began >= since]
    answered = [one for one in late if one.status == 200]
    require(
        not answered,
        f"{len(answered)} of {len(late)} calls were answered that began more than {_LIMIT_S:.0f} s after their key was revoked",
    )
    told = {(one.status, one.code) for one in late}
    require(told == {(401, "key_revoked")}, f"a second after it callers were told {sorted(told)}")


def prove() -> str:
    """Try it; return what was seen."""
    with serving(gateways=_GATEWAYS) as site:
        lasts = [_revoke_under_load(site, f"revoked-{number}") for number in range(_KEYS)]
    return f"the last answer was to a call begun {max(lasts):.2f} s after the key was revoked; then 401 at all of them"
