"""Which addresses webhooks may go to: the Internet's, and none of this machine's or its network's."""

import ipaddress
import re
import socket
from contextlib import closing
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from marketplace.errors import WebhookInvalid

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL: Final = 500
# What `is_global` lets through in some version of Python, or what would be turned into an IPv4 address behind our back.
_REFUSED: Final = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # Carriers' own (CGNAT).
        "192.0.0.0/24",  # Protocols' own.
        "192.88.99.0/24",  # 6to4 relays.
        "198.18.0.0/15",  # Benchmarks.
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",  # IPv4-compatible, with :: and ::1.
        "::ffff:0:0/96",  # IPv4-mapped.
        "64:ff9b::/96",  # NAT64,
        "64:ff9b:1::/48",  # and its local form.
        "100::/64",  # Discard.
        "2001::/23",  # Teredo and other protocols' own.
        "2002::/16",  # 6to4.
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
]
_HOST: Final = re.compile(r"[A-Za-z0-9.:_-]{1,253}")


class AddressRefused(Exception):
    """Nothing is sent there, whoever asks. `str()` says why, for the delivery log."""


def check_url(text: str) -> str:
    """Return a URL that webhooks could go to, by its form alone: what it resolves to is looked at when it is called.

    Raises:
        WebhookInvalid: it could not.
    """
    if len(text) > MAX_URL or not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        message = f"An address has at most {MAX_URL} printable ASCII characters, and no space."
        raise WebhookInvalid(message)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        message = "This is no URL."
        raise WebhookInvalid(message) from None
    fault = _fault_of(parts, port)
    if fault:
        raise WebhookInvalid(fault)
    return text


def _fault_of(parts: SplitResult, port: int | None) -> str:
    host = parts.hostname or ""
    if parts.scheme not in {"https", "http"} or not _HOST.fullmatch(host) or port == 0:
        return "Give a URL of the form https://host/path."
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "The URL may hold neither a user name, a password nor a fragment."
    try:
        literal: Address | None = ipaddress.ip_address(host)
    except ValueError:
        literal = None
    is_loopback = host == "localhost" or (literal is not None and literal.is_loopback)
    if is_loopback and settings.WEBHOOKS_TO_LOOPBACK:
        return ""
    if parts.scheme != "https":
        return "Webhooks go over HTTPS only."
    if is_loopback or (literal is not None and refusal_of(literal)):
        return "This address is not one that everybody can reach."
    return ""


def resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, Address]]:
    """Return the addresses of a host, each of which may be called. Called once for each attempt.

    Raises:
        AddressRefused: one of them may not: whoever mixes them means no good.
        OSError: the name has no address.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses: list[tuple[socket.AddressFamily, Address]] = [
        (family, ipaddress.ip_address(str(sockaddr[0]).partition("%")[0])) for family, _, _, _, sockaddr in found
    ]
    for _, address in addresses:
        if reason := refusal_of(address):
            message = f"{host} is {address}, which is {reason}."
            raise AddressRefused(message)
    return addresses


def refusal_of(address: Address) -> str:
    """Return why an address may not be called; empty if it may."""
    if settings.WEBHOOKS_TO_LOOPBACK and address.is_loopback:
        return ""
    if address.is_loopback:
        return "this machine"
    if not address.is_global or any(address in network for network in _REFUSED if network.version == address.version):
        return "not an address of the Internet"
    if is_own(address):
        return "this machine"
    return ""


def is_own(address: Address) -> bool:
    """Whether an address is one of this machine's: only those can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
