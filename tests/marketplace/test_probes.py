"""Who may read the metrics."""

from typing import Any

import pytest

from marketplace.errors import MetricsTokenInvalid
from marketplace.gateway.request import Request
from marketplace.probes import check_operator

TOKEN = "scrape-me-0123456789"


def ask(peer: str = "127.0.0.1", **headers: str) -> None:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    async def receive() -> dict[str, Any]:
        raise AssertionError

    check_operator(Request({"method": "GET", "path": "/metrics", "headers": named, "client": (peer, 1)}, receive))


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_may_read_a_site_that_is_open_to_it_alone(peer: str) -> None:
    ask(peer)


@pytest.mark.parametrize("peer", ["10.0.0.7", "203.0.113.9", "::ffff:203.0.113.9", "2001:db8::1", "", "unix"])
def test_another_machine_may_not(peer: str) -> None:
    with pytest.raises(MetricsTokenInvalid):
        ask(peer)


@pytest.mark.parametrize("header", ["x_forwarded_for", "forwarded", "x_real_ip", "via", "x_forwarded_proto", "x_forwarded_host"])
def test_what_came_through_a_proxy_is_not_from_this_machine(header: str) -> None:
    with pytest.raises(MetricsTokenInvalid):
        ask(**{header: "127.0.0.1"})


@pytest.mark.parametrize(("name", "value"), [("HOST", "0.0.0.0"), ("SITE_URL", "https://farebox.example"), ("SITE_URL", "")])
def test_a_site_that_others_reach_needs_a_token_even_from_this_machine(settings: Any, name: str, value: str) -> None:
    setattr(settings, name, value)  # A proxy that sends no header would make everybody this machine.

    with pytest.raises(MetricsTokenInvalid):
        ask()


def test_with_a_token_it_alone_counts(settings: Any) -> None:
    settings.METRICS_TOKEN = TOKEN

    ask("203.0.113.9", authorization=f"Bearer {TOKEN}", x_forwarded_for="198.51.100.4")
    for wrong in (
        {},
        {"authorization": TOKEN},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer \xff"},
    ):
        with pytest.raises(MetricsTokenInvalid):
            ask(**wrong)
