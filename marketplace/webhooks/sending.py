"""One HTTP request to a stranger's address, on a leash: where it goes, how long it takes, what is read of the answer.

`http.client` speaks HTTP; the socket under it is ours. It connects to the address that was checked,
looks again at whom it reached, and shares one deadline over all that is waited for.
"""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from marketplace.webhooks.addresses import AddressRefused, refusal_of, resolve

TIMEOUT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt: a status, or why there is none."""

    status: int | None
    error: str
    took_ms: int

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver took it: any 2xx. A redirect is a failure."""
        return self.status is not None and 200 <= self.status < 300


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """POST a body; return what came of it within 15 s. Nothing of the answer but its status is kept.

    Proxies of the environment are not used, redirects not followed, and no cookie is sent.
    """
    began = time.monotonic()
    deadline = began + TIMEOUT_S
    status, error = None, ""
    try:
        status = _exchange(url, body, headers, deadline)
    except AddressRefused as refusal:
        error = str(refusal)
    except TimeoutError:
        error = f"No answer within {TIMEOUT_S:g} s."
    except ssl.SSLCertVerificationError as failure:
        error = f"The certificate cannot be trusted: {failure.verify_message}."
    except (OSError, http.client.HTTPException, UnicodeError) as failure:
        error = f"{type(failure).__name__}: {failure}"
    return Answer(status=status, error=error[:200], took_ms=round((time.monotonic() - began) * 1000))


def _exchange(url: str, body: bytes, headers: Mapping[str, str], deadline: float) -> int:
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    connection = _Connection(host, port, is_tls=is_tls, deadline=deadline)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # http.client sends Host with the name, and a port that is not the scheme's own.
        connection.request("POST", target, body, {**headers, "Connection": "close", "Accept-Encoding": "identity"})
        return connection.getresponse().status
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to a checked address, with one deadline for connecting, sending and reading the head."""

    def __init__(self, host: str, port: int, *, is_tls: bool, deadline: float) -> None:
        super().__init__(host, port)
        self.default_port = 443 if is_tls else 80
        self._is_tls = is_tls
        self._deadline = deadline

    def connect(self) -> None:
        """Connect to the first address that answers; raise AddressRefused before a byte goes to one that may not be called."""
        failure: OSError = OSError("The name has no address.")
        for family, address in resolve(self.host, self.port):
            plain = _Plain(family, socket.SOCK_STREAM)
            try:
                plain.start(self._deadline)
                plain.connect((str(address), self.port))
                _check_peer(plain)
                self.sock = self._secured(plain) if self._is_tls else plain
            except OSError as error:
                plain.close()
                failure = error
            except BaseException:
                plain.close()
                raise
            else:
                return
        raise failure

    def _secured(self, plain: socket.socket) -> ssl.SSLSocket:
        context = ssl.create_default_context()
        context.sslsocket_class = _Secure
        # The name, not the address: its certificate must be the name's.
        secured = context.wrap_socket(plain, server_hostname=self.host)
        assert isinstance(secured, _Secure)
        secured.deadline = self._deadline
        return secured


def _check_peer(connected: socket.socket) -> None:
    """Look at whom we reached, before anything is said to them."""
    peer = ipaddress.ip_address(connected.getpeername()[0].partition("%")[0])
    if reason := refusal_of(peer):
        message = f"{peer} is {reason}."
        raise AddressRefused(message)


class _Plain(socket.socket):
    """A socket whose every read waits until the deadline at most: a server that dribbles gets no more time."""

    deadline = 0.0

    def start(self, deadline: float) -> None:
        """Set the deadline, by the monotonic clock."""
        self.deadline = deadline
        self.settimeout(_left(deadline))

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """Read, within what is left of the time."""
        self.settimeout(_left(self.deadline))
        return super().recv_into(*args, **kwargs)


class _Secure(ssl.SSLSocket):
    """The same over TLS."""

    deadline = 0.0

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """Read, within what is left of the time."""
        self.settimeout(_left(self.deadline))
        return super().recv_into(*args, **kwargs)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
