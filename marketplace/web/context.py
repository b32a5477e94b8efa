"""What every template has: the site, the organization, its balance."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from billing import dunning
from billing.collecting import owed_cents
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
        "pressing": SimpleLazyObject(lambda: _pressing(request)),
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


@dataclass(frozen=True, slots=True)
class Pressing:
    """An invoice that was not paid in time, told on every page until it is."""

    number: str
    owed_cents: int
    pay_at: str  # The provider's page; empty while there is none.
    stops_at: datetime | None  # When calls are refused.
    is_stopped: bool


def _pressing(request: HttpRequest) -> Pressing | None:
    organization = find_organization(request)
    invoice = dunning.find_pressing(organization.account) if organization else None
    if organization is None or invoice is None:
        return None
    return Pressing(
        number=invoice.number,
        owed_cents=owed_cents(invoice),
        pay_at=invoice.hosted_url,
        stops_at=dunning.stops_at(invoice),
        is_stopped=organization.account.line_withdrawn_at is not None,
    )
