"""The rules of organizations: found, join, suspend."""

import secrets
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify

from billing.connecting import suspend_payouts
from billing.errors import CreditPoolEmpty, GrantConflict
from billing.ledger import grant_free_credit, open_account
from billing.money import NANOS_PER_CENT, Nanos
from marketplace import audit
from marketplace.changes import organization_changed
from marketplace.models import Membership, Organization, User

_SLUG_LENGTH = 30
# The ledger's column takes 200 characters, some of them its own. An address has up to 254.
_REFERENCE_LENGTH = 190
_RESERVED_SLUGS = frozenset({"admin", "api", "docs", "farebox", "models", "static", "v1", "v2"})


@transaction.atomic
def found_organization(*, name: str, owner: User | None, by: User | str, slug: str | None = None) -> Organization:
    """Create an organization with its account; `owner` becomes its owner.

    The slug is made from the name where none is given, with a random tail where it is taken.
    """
    slug = slug or _free_slug(name)
    organization = Organization.objects.create(name=name, slug=slug, account=open_account(name=slug, currency=settings.CURRENCY))
    if owner:
        Membership.objects.create(organization=organization, user=owner, role=Membership.Role.OWNER)
    audit.record(organization, action="organization.founded", target=organization, by=by)
    return organization


def _free_slug(name: str) -> str:
    base = slugify(name)[:_SLUG_LENGTH].strip("-") or "org"
    slug = base
    while slug in _RESERVED_SLUGS or Organization.objects.filter(slug=slug).exists():
        slug = f"{base}-{secrets.token_hex(2)}"
    return slug


@transaction.atomic
def set_response_cache(organization: Organization, *, enabled: bool, by: User | str) -> None:
    """Have answers kept for an organization, or no longer: then what was kept is dropped within a second."""
    if organization.response_cache == enabled:
        return
    organization.response_cache = enabled
    organization.save(update_fields=["response_cache"])
    organization_changed(organization)
    audit.record(organization, action="response_cache.set", target=organization, by=by, details={"enabled": enabled})


@transaction.atomic
def welcome_user(user: User) -> Organization:
    """Give a person whose address is verified an organization with the free credit. Safe to repeat.

    Who has an organization gets nothing: each further address they confirmed would bring credit.
    """
    user = User.objects.select_for_update().get(pk=user.pk)
    organization = user.organizations.order_by("created_at").first()
    if organization is None:
        organization = found_organization(name=user.email.split("@")[0][:80], owner=user, by=user)
        if settings.FREE_CREDIT_CENTS:
            _welcome_with_credit(organization, address=user.email)
    return organization


def _welcome_with_credit(organization: Organization, *, address: str) -> None:
    """Grant the free credit: once per mailbox, from a finite pool. Where there is none to give, say so on the record."""
    try:
        grant_free_credit(
            organization.account,
            amount_nanos=Nanos(settings.FREE_CREDIT_CENTS * NANOS_PER_CENT),
            pool_limit_nanos=Nanos(settings.FREE_CREDIT_POOL_CENTS * NANOS_PER_CENT),
            reference=f"welcome:{_mailbox_of(address)}"[:_REFERENCE_LENGTH],
            expires_at=timezone.now() + timedelta(days=settings.FREE_CREDIT_DAYS) if settings.FREE_CREDIT_DAYS else None,
        )
    except CreditPoolEmpty:
        audit.record(organization, action="credit.pool_empty", target=organization, by="system")
    except GrantConflict:  # To the address's owner before, or to another spelling of it.
        audit.record(organization, action="credit.already_given", target=organization, by="system")


def _mailbox_of(address: str) -> str:
    """Return where an address's mail arrives: ada+2@example.com is one of ada's endless further addresses."""
    name, _at, domain = address.lower().rpartition("@")
    return f"{name.split('+', 1)[0] or name}@{domain}"


@transaction.atomic
def suspend_organization(organization: Organization, *, reason: str, by: User | str) -> None:
    """Stop all keys of an organization within a second, and its payouts. Nothing is deleted; it can be restored."""
    organization.suspended_at = timezone.now()
    organization.save(update_fields=["suspended_at"])
    suspend_payouts(organization.account, since=organization.suspended_at)
    organization_changed(organization)
    audit.record(organization, action="organization.suspended", target=organization, by=by, details={"reason": reason})


@transaction.atomic
def restore_organization(organization: Organization, *, by: User | str) -> None:
    """Let a suspended organization's keys work again."""
    organization.suspended_at = None
    organization.save(update_fields=["suspended_at"])
    suspend_payouts(organization.account, since=None)
    organization_changed(organization)
    audit.record(organization, action="organization.restored", target=organization, by=by)


@transaction.atomic
def block_user(user: User, *, reason: str, by: User) -> None:
    """Keep a person from signing in; who is signed in is out at the next page. Their keys still work."""
    user.is_active = False
    user.save(update_fields=["is_active"])
    audit.record(None, action="user.blocked", target=user, by=by, details={"reason": reason})


@transaction.atomic
def unblock_user(user: User, *, by: User) -> None:
    """Let a blocked person sign in again."""
    user.is_active = True
    user.save(update_fields=["is_active"])
    audit.record(None, action="user.unblocked", target=user, by=by)
