import ipaddress
import socket
from typing import Any

import pytest

from marketplace.errors import WebhookInvalid
from marketplace.webhooks.addresses import AddressRefused, check_url, is_own, refusal_of, resolve

REFUSED = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "100.127.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::1", "2001::1",
    "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "100::1",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_address_of_the_internet_is_refused(text: str) -> None:
    assert refusal_of(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:2800:21f:cb07::1"])
def test_addresses_of_the_internet_may_be_called(text: str) -> None:
    assert refusal_of(ipaddress.ip_address(text)) == ""


def test_an_address_of_this_machine_is_its_own() -> None:
    assert is_own(ipaddress.ip_address("127.0.0.1"))
    assert not is_own(ipaddress.ip_address("8.8.8.8"))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "https://", "https:///path", "https://127.0.0.1/", "https://[::1]/", "https://10.1.2.3:8443/",
        "https://localhost/", "https://[::ffff:10.0.0.1]/", "https://user@example.com/", "https://user:word@example.com/", "https://example.com/#part",
        "https://example.com:0/", "https://example.com:99999/", "https://exa mple.com/", "https://example.com\\@10.0.0.1/", "https://例子.com/",
        "https://example.com/\nHost: other", "javascript:alert(1)", "//example.com/", "https://" + "a" * 600, "",
    ],
)  # fmt: skip
def test_bad_urls_are_refused_by_their_form(url: str) -> None:
    with pytest.raises(WebhookInvalid):
        check_url(url)


@pytest.mark.parametrize("url", ["https://example.com", "https://hooks.example.com:8443/a/b?c=d", "https://[2606:2800:21f:cb07::1]/x"])
def test_good_urls_pass(url: str) -> None:
    assert check_url(url) == url


def test_loopback_passes_only_where_the_operator_says_so(settings: Any) -> None:
    settings.WEBHOOKS_TO_LOOPBACK = True

    assert check_url("http://127.0.0.1:8000/hook")
    with pytest.raises(WebhookInvalid):
        check_url("http://10.0.0.1/hook")


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "localhost"])
def test_other_spellings_of_loopback_are_refused_when_they_are_resolved(host: str) -> None:
    with pytest.raises((AddressRefused, OSError)):
        resolve(host, 443)


def test_a_name_that_mixes_good_and_bad_addresses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        resolve("mixed.example", 443)
