"""What every template has: the site, the organization, its balance."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from billing.ledger import balance
from marketplace.web import mailbox
from marketplace.web.access import find_organization, joined_organizations


def site(request: HttpRequest) -> dict[str, Any]:
    """Return the context of every page. Nothing is read from the database unless a page shows it."""
    return {
        "site_url": settings.SITE_URL,
        "mail_is_files": settings.MAIL_IS_FILES,
        "mail_is_readable": SimpleLazyObject(lambda: mailbox.is_open(request)),
        "organization": SimpleLazyObject(lambda: find_organization(request)),
        "organizations": SimpleLazyObject(lambda: joined_organizations(request)),
        "credit": SimpleLazyObject(lambda: _credit(request)),
        "area": request.path.split("/")[1] if request.path else "",
    }


@dataclass(frozen=True, slots=True)
class Credit:
    """What an organization has left, and how much of that running calls may still use, in nanos."""

    left_nanos: int
    held_nanos: int


def _credit(request: HttpRequest) -> Credit | None:
    organization = find_organization(request)
    if organization is None:
        return None
    now = balance(organization.account)
    return Credit(left_nanos=now.granted - now.spent, held_nanos=now.held)
