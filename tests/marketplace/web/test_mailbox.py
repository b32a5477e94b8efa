from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.core.mail.backends.filebased import EmailBackend
from django.test import Client

from marketplace.web.mailbox import find_confirmation

BODY = "Open this link:\n\nhttp://127.0.0.1:8000/accounts/confirm-email/ABC:def/\n"


@pytest.fixture
def write_mail(settings: Any) -> Callable[..., None]:
    """Write a mail as the embedded site does."""
    folder: Path = settings.MAIL_DIR
    settings.EMAIL_FILE_PATH = str(folder)
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"

    def write(to: str, body: str = BODY) -> None:
        EmailMessage("Subject", body, "a@localhost", [to], connection=EmailBackend(file_path=str(folder))).send()

    return write


def _sign_up(client: Client, address: str = "grace@example.com") -> None:
    client.post("/accounts/signup/", {"email": address, "password1": "correct horse battery"})


@pytest.mark.django_db
def test_who_signs_up_on_this_machine_reads_the_mail(client: Client, write_mail: Callable[..., None]) -> None:
    _sign_up(client)

    page = client.get("/mail/").content.decode()

    assert "grace@example.com" in page
    assert 'href="/accounts/confirm-email/' in page
    assert "/mail/" in client.get("/accounts/confirm-email/").content.decode()


@pytest.mark.django_db
def test_another_session_reads_nothing(client: Client, write_mail: Callable[..., None]) -> None:
    _sign_up(client)

    assert Client().get("/mail/").status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("extra", "change"),
    [
        ({"REMOTE_ADDR": "203.0.113.9"}, {}),
        ({"HTTP_X_FORWARDED_FOR": "203.0.113.9"}, {}),
        ({"HTTP_FORWARDED": "for=203.0.113.9"}, {}),
        ({}, {"SITE_URL": "https://farebox.example"}),
        ({}, {"TRUSTED_PROXIES": ["127.0.0.1"]}),
        ({}, {"MAIL_IS_FILES": False}),
    ],
)
def test_nobody_from_elsewhere_reads_mail(
    client: Client, write_mail: Callable[..., None], settings: Any, extra: dict[str, Any], change: dict[str, Any]
) -> None:
    _sign_up(client)
    for name, value in change.items():
        setattr(settings, name, value)

    assert client.get("/mail/", **extra).status_code == 404
    assert 'href="/mail/"' not in client.get("/accounts/confirm-email/", **extra).content.decode()


@pytest.mark.django_db
def test_a_password_reset_is_never_shown(client: Client, write_mail: Callable[..., None], settings: Any) -> None:
    _sign_up(client)
    for file in settings.MAIL_DIR.glob("*.log"):
        file.unlink()
    write_mail("grace@example.com", "http://127.0.0.1:8000/accounts/password/reset/key/1-abc/")

    assert "/password/reset/key/" not in client.get("/mail/").content.decode()


def test_the_newest_mail_to_the_very_address_is_found(write_mail: Callable[..., None], settings: Any) -> None:
    write_mail("grace@example.com")
    write_mail("race@example.com")

    assert find_confirmation(settings.MAIL_DIR, address="ace@example.com") is None
    message = find_confirmation(settings.MAIL_DIR, address="race@example.com")
    assert message is not None
    assert message["To"] == "race@example.com"
