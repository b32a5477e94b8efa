"""The embedded site's mail: files under `var/mail`, of which a sign-up may read the one it caused.

Only the address that this session signed up may be read, only its confirmation mail, only
from this machine, and only while the site answers under a loopback address: behind a proxy
on the same machine every visitor would look local. A password reset is never shown, or
whoever has a browser here could take over an account.
"""

import email
import email.policy
import ipaddress
from email.message import EmailMessage
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

# Newest mails looked through for the one to this session's address.
_MOST: Final = 200
_SESSION: Final = "pending_address"


def remember_address(request: HttpRequest, address: str) -> None:
    """Keep the address whose confirmation this session waits for."""
    request.session[_SESSION] = address


def is_open(request: HttpRequest) -> bool:
    """Whether this visitor may read the mail that they caused."""
    forwarded = any(name in request.headers for name in ("Forwarded", "Via", "X-Forwarded-For", "X-Real-Ip"))
    return (
        settings.MAIL_IS_FILES
        and not settings.TRUSTED_PROXIES
        and not forwarded
        and _is_loopback(urlsplit(settings.SITE_URL).hostname or "")
        and _is_loopback(request.META.get("REMOTE_ADDR", ""))
        and _SESSION in request.session
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@require_safe
def show_mail(request: HttpRequest) -> HttpResponse:
    """Show the newest confirmation mail to the address that this session signed up."""
    if not is_open(request):
        raise Http404
    address = request.session[_SESSION]
    message = find_confirmation(settings.MAIL_DIR, address=address)
    body = message.get_body(("plain",)) if message else None
    text = body.get_content() if body else ""
    link = next((word for word in text.split() if word.startswith("http") and "/confirm-email/" in word), "")
    context = {"address": address, "message": message, "text": text, "link": urlsplit(link).path}
    return render(request, "mailbox/mail.html", context)


def find_confirmation(folder: Path, *, address: str) -> EmailMessage | None:
    """Return the newest mail in `folder` to `address` that confirms an address, or None."""
    files = sorted(folder.glob("*.log"), key=lambda file: file.stat().st_mtime, reverse=True)[:_MOST]
    for file in files:
        for raw in reversed(file.read_bytes().split(b"-" * 79 + b"\n")):
            message = email.message_from_bytes(raw.strip(), policy=email.policy.default)
            if str(message["To"]) == address and "/confirm-email/" in _plain(message):
                return message
    return None


def _plain(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    return str(body.get_content()) if body else ""
