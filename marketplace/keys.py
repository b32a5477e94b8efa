"""The rules of API keys: issue, rotate, revoke, cap."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings as site
from django.db import transaction
from django.utils import timezone

from marketplace import audit
from marketplace.changes import key_changed
from marketplace.credentials import check_form, digest, mint_secret
from marketplace.errors import KeyExpiryInPast, KeyLimitReached, KeyUnknown
from marketplace.models import ApiKey, Organization, User

PLAYGROUND_MINUTES = 60
ROTATION_GRACES = {"0": timedelta(0), "1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """What a key may do. The defaults are a live secret key without limits of its own."""

    kind: ApiKey.Kind = ApiKey.Kind.SECRET
    livemode: bool = True
    scopes: Sequence[str] = field(default_factory=tuple)
    allowed_models: Sequence[str] = field(default_factory=tuple)
    allowed_cidrs: Sequence[str] = field(default_factory=tuple)
    rate_per_minute: int | None = None
    monthly_cap_nanos: int | None = None
    expires_at: datetime | None = None


@transaction.atomic
def issue_key(*, organization: Organization, name: str, settings: KeySettings, by: User | ApiKey | str) -> tuple[ApiKey, str]:
    """Create a key; return it with its secret, which is never readable again.

    Raises:
        KeyLimitReached: the organization already holds as many live keys as it may; nothing was made.
        KeyExpiryInPast: it would have expired before it was made.
    """
    organization = Organization.objects.select_for_update().get(pk=organization.pk)  # One issue at a time.
    limit = site.MAX_KEYS
    if organization.keys.live().issued().count() >= limit:
        raise KeyLimitReached(limit=limit)
    if settings.expires_at and settings.expires_at <= timezone.now():
        raise KeyExpiryInPast(expires_at=settings.expires_at)
    key, secret = _create(organization, name=name, settings=settings, by=by)
    audit.record(organization, action="key.issued", target=key, by=by, details={"name": name, "livemode": settings.livemode})
    return key, secret


def issue_playground_key(*, organization: Organization, livemode: bool, rate_per_minute: int, by: User | None) -> tuple[ApiKey, str]:
    """Create the short-lived key with which a page's playground makes real calls.

    It can only predict, expires within the hour and is not counted among the organization's
    keys. A test one (`livemode=False`) is free.
    """
    settings = KeySettings(
        kind=ApiKey.Kind.RESTRICTED,
        livemode=livemode,
        scopes=("predict",),
        rate_per_minute=rate_per_minute,
        expires_at=timezone.now() + timedelta(minutes=PLAYGROUND_MINUTES),
    )
    return _create(organization, name="Playground", settings=settings, by=by, playground=True)


def _create(
    organization: Organization, *, name: str, settings: KeySettings, by: User | ApiKey | str | None, playground: bool = False
) -> tuple[ApiKey, str]:
    secret = mint_secret(settings.kind, livemode=settings.livemode)
    key = organization.keys.create(
        name=name,
        kind=settings.kind,
        livemode=settings.livemode,
        digest=digest(secret),
        pepper_version=site.KEY_PEPPER_VERSION,
        display_start=secret[:15],
        last4=secret[-4:],
        scopes=list(settings.scopes),
        allowed_models=list(settings.allowed_models),
        allowed_cidrs=list(settings.allowed_cidrs),
        rate_per_minute=settings.rate_per_minute,
        monthly_cap_nanos=settings.monthly_cap_nanos,
        expires_at=settings.expires_at,
        created_by=by if isinstance(by, User) else None,
        playground=playground,
    )
    key_changed(key)  # A process may have cached that no such key exists.
    return key, secret


@transaction.atomic
def rotate_key(key: ApiKey, *, grace: timedelta, by: User | ApiKey | str) -> tuple[ApiKey, str]:
    """Replace a key: return a new one with the same settings; the old one works for `grace` longer.

    Raises:
        KeyUnknown: the key was revoked or has expired; nothing was made.
    """
    key = ApiKey.objects.select_for_update().get(pk=key.pk)
    now = timezone.now()
    if key.revoked_at or (key.expires_at and key.expires_at <= now):
        raise KeyUnknown
    settings = KeySettings(
        kind=ApiKey.Kind(key.kind),
        livemode=key.livemode,
        scopes=key.scopes,
        allowed_models=key.allowed_models,
        allowed_cidrs=key.allowed_cidrs,
        rate_per_minute=key.rate_per_minute,
        monthly_cap_nanos=key.monthly_cap_nanos,
        expires_at=key.expires_at,
    )
    fresh, secret = _create(key.organization, name=key.name, settings=settings, by=by)
    if grace:
        key.expires_at = min(now + grace, key.expires_at or now + grace)
        key.save(update_fields=["expires_at"])
    else:
        key.revoked_at = now
        key.save(update_fields=["revoked_at"])
    key_changed(key)
    audit.record(
        key.organization, action="key.rotated", target=key, by=by, details={"to": str(fresh), "grace_s": int(grace.total_seconds())}
    )
    return fresh, secret


@transaction.atomic
def revoke_key(key: ApiKey, *, by: User | ApiKey | str) -> None:
    """Revoke a key: within a second it fails in every process. Revoking twice changes nothing."""
    key = ApiKey.objects.select_for_update().get(pk=key.pk)
    if key.revoked_at:
        return
    key.revoked_at = timezone.now()
    key.save(update_fields=["revoked_at"])
    key_changed(key)
    audit.record(key.organization, action="key.revoked", target=key, by=by)


def revoke_leaked_key(secret: str) -> None:
    """Revoke the key whose full text somebody holds; whoever has it may end it.

    Raises:
        KeyMalformed, KeyMistyped, KeyUnknown: there is no such key; nothing changed.
    """
    check_form(secret)
    key = ApiKey.objects.filter(digest=digest(secret)).first()
    if key is None:
        raise KeyUnknown
    revoke_key(key, by="holder of the key")


@transaction.atomic
def set_monthly_cap(key: ApiKey, *, cap_nanos: int | None, by: User | ApiKey | str) -> None:
    """Set or lift what a key may spend in a UTC month. Lowering it below what was spent stops the key."""
    before = key.monthly_cap_nanos
    key.monthly_cap_nanos = cap_nanos
    key.save(update_fields=["monthly_cap_nanos"])
    key_changed(key)
    audit.record(key.organization, action="key.cap_set", target=key, by=by, details={"from_nanos": before, "to_nanos": cap_nanos})
