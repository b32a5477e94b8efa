"""Requests to receivers on loopback, and to addresses that must never be reached."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from marketplace.webhooks import sending
from marketplace.webhooks.sending import post
from tests.marketplace.webhooks.receiver import receiver


@pytest.fixture(autouse=True)
def _to_loopback(settings: Any) -> None:
    settings.WEBHOOKS_TO_LOOPBACK = True


def test_a_message_arrives_as_it_was_sent() -> None:
    with receiver() as told:
        answer = post(told.url + "?a=b", b'{"x":1}', {"webhook-id": "msg_1"})

    headers, body = told.received[0]
    assert (answer.status, answer.is_delivered, answer.error) == (200, True, "")
    assert (headers["webhook-id"], body, headers["host"]) == ("msg_1", b'{"x":1}', told.url.split("/")[2])


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(status: int) -> None:
    with receiver() as other, receiver(status=status, headers={"Location": other.url}) as told:
        answer = post(told.url, b"{}", {})

    assert (answer.status, answer.is_delivered, len(other.received)) == (status, False, 0)


@pytest.mark.parametrize("status", [199, 400, 404, 410, 500, 503])
def test_anything_but_2xx_is_a_failure(status: int) -> None:
    with receiver(status=status) as told:
        assert not post(told.url, b"{}", {}).is_delivered


def test_who_does_not_answer_is_waited_for_no_longer_than_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "TIMEOUT_S", 0.5)
    with receiver(before_answer=lambda _: time.sleep(1)) as told:
        answer = post(told.url, b"{}", {})

    assert (answer.status, answer.error) == (None, "No answer within 0.5 s.")
    assert answer.took_ms < 900


def test_who_dribbles_its_answer_gets_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "TIMEOUT_S", 0.6)

    def dribble(handler: Any) -> None:
        for _ in range(30):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: "[:1])
            time.sleep(0.1)

    with receiver(before_answer=dribble) as told:
        began = time.monotonic()
        answer = post(told.url, b"{}", {})

    assert answer.status is None
    assert time.monotonic() - began < 3.5  # The receiver's own end; the answer came after 0.6 s.
    assert answer.took_ms < 1200


def test_nobody_there_is_an_answer_too() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    answer = post(f"http://127.0.0.1:{port}/", b"{}", {})

    assert (answer.status, answer.is_delivered) == (None, False)
    assert "ConnectionRefusedError" in answer.error


def test_nothing_goes_to_this_machine_unless_the_operator_says_so(settings: Any) -> None:
    settings.WEBHOOKS_TO_LOOPBACK = False
    with receiver() as told:
        answers = [post(told.url, b"{}", {}), post(told.url.replace("127.0.0.1", "localhost"), b"{}", {})]

    assert [answer.status for answer in answers] == [None, None]
    assert all("this machine" in answer.error for answer in answers)
    assert told.received == []


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "100.64.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "fd00::1"])
def test_a_name_that_resolves_to_a_private_address_is_not_connected_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(family, socket.SOCK_STREAM, 6, "", (address, 443))])
    connected: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, where: connected.append(where))

    answer = post("https://innocent.example/", b"{}", {})

    assert (answer.status, connected) == (None, [])
    assert "not an address of the Internet" in answer.error


def test_a_name_is_resolved_once_and_that_address_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as told:
        port = int(told.url.split(":")[2].split("/")[0])
        asked: list[str] = []

        def rebind(host: str, *_: object, **__: object) -> list[Any]:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(asked) == 1 else "10.0.0.1", port))]

        monkeypatch.setattr(socket, "getaddrinfo", rebind)
        answer = post(f"http://rebinding.example:{port}/", b"{}", {})

    assert (answer.status, asked) == (200, ["rebinding.example"])
    assert told.received[0][0]["host"] == f"rebinding.example:{port}"


@contextmanager
def tls_receiver(folder: Path, name: str) -> Iterator[int]:
    """Answer one request over TLS, with a certificate for `name` by an authority in `folder`; yield the port."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) as secured:
                # Head and body may come apart; what is closed with some of it unread takes the answer with it.
                while chunk := secured.recv(4096):
                    if chunk.endswith(b"{}"):
                        break
                secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        except OSError:
            return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join(5)


def test_a_certificate_must_be_trusted_and_be_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with tls_receiver(tmp_path, "localhost") as port:
        good = post(f"https://localhost:{port}/", b"{}", {})
    with tls_receiver(tmp_path, "other.example") as port:
        other = post(f"https://localhost:{port}/", b"{}", {})
    monkeypatch.delenv("SSL_CERT_FILE")
    with tls_receiver(tmp_path, "localhost") as port:
        strange = post(f"https://localhost:{port}/", b"{}", {})

    assert (good.status, good.error) == (204, "")
    assert other.status is None
    assert "certificate" in other.error
    assert strange.status is None
    assert "certificate" in strange.error
