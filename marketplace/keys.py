"""The rules of API keys: issue, rotate, revoke, cap."""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings as site
from django.db import transaction
from django.utils import timezone

from billing.ids import uuid7
from marketplace import audit
from marketplace.changes import key_changed
from marketplace.credentials import check_form, digest, mint_secret
from marketplace.errors import KeyExpiryInPast, KeyLimitReached, KeyNotLive, KeySettingInvalid, KeyUnknown, ScopeMissing
from marketplace.models import ApiKey, CatalogueModel, Organization, User
from marketplace.models.caps import is_capped

PLAYGROUND_MINUTES = 60
ROTATION_GRACES = {"0": timedelta(0), "1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}

# What a restricted key may be given. A secret key has all of them, a management key all but predict.
SCOPES: Final = (
    "predict",
    "models:read",
    "models:write",
    "keys:read",
    "keys:write",
    "organization:read",
    "usage:read",
    "requests:read",
    "predictions:read",
    "webhooks:read",
    "webhooks:write",
    "invoices:read",
    "billing:read",
    "billing:write",
)
_MODEL_PATH: Final = re.compile(r"[a-z0-9-]{1,40}/[a-z0-9-]{1,40}", re.ASCII)
# Entries of an allow-list: each is looked at on every call.
_MAX_LISTED: Final = 50


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

    @property
    def rights(self) -> frozenset[str]:
        """The scopes that such a key has in effect."""
        if self.kind == ApiKey.Kind.RESTRICTED:
            return frozenset(self.scopes)
        return frozenset(SCOPES) - ({"predict"} if self.kind == ApiKey.Kind.MANAGEMENT else set())


def settings_of(key: ApiKey) -> KeySettings:
    """Return what a key may do."""
    return KeySettings(
        kind=ApiKey.Kind(key.kind),
        livemode=key.livemode,
        scopes=key.scopes,
        allowed_models=key.allowed_models,
        allowed_cidrs=key.allowed_cidrs,
        rate_per_minute=key.rate_per_minute,
        monthly_cap_nanos=key.monthly_cap_nanos,
        expires_at=key.expires_at,
    )


def _check_settings(settings: KeySettings) -> None:
    """Refuse settings that no key can have.

    Raises:
        KeySettingInvalid: naming the one at fault.
        KeyExpiryInPast: it would have expired before it was made.
    """
    for param, detail in (*_scope_faults(settings), *_limit_faults(settings)):
        raise KeySettingInvalid(detail, param=param)
    if settings.expires_at and settings.expires_at <= timezone.now():
        raise KeyExpiryInPast(expires_at=settings.expires_at)


def _scope_faults(settings: KeySettings) -> Iterator[tuple[str, str]]:
    if settings.kind == ApiKey.Kind.RESTRICTED:
        if not settings.scopes:
            yield "scopes", "A restricted key needs at least one scope."
        for scope in settings.scopes:
            if scope not in SCOPES:
                yield "scopes", f"There is no scope {scope[:40]!r}."
    elif settings.scopes:
        yield "scopes", "Only a restricted key (rk) has scopes."


def _limit_faults(settings: KeySettings) -> Iterator[tuple[str, str]]:
    for param, listed in (("allowed_models", settings.allowed_models), ("allowed_cidrs", settings.allowed_cidrs)):
        if len(listed) > _MAX_LISTED:
            yield param, f"A key's list holds at most {_MAX_LISTED} entries."
    for path in settings.allowed_models:
        if not _MODEL_PATH.fullmatch(path):
            yield "allowed_models", f"{path[:80]!r} is not of the form owner/model."
    for cidr in settings.allowed_cidrs:
        if not _is_network(cidr):
            yield "allowed_cidrs", f"{cidr[:50]!r} is not a network such as 203.0.113.0/24."
    if settings.rate_per_minute is not None and settings.rate_per_minute < 1:
        yield "rate_per_minute", "A rate limit is at least 1 call per minute."


def _is_network(cidr: str) -> bool:
    try:
        ipaddress.ip_network(cidr)
    except ValueError:
        return False
    return True


def _check_delegation(settings: KeySettings, *, by: User | ApiKey | str) -> None:
    """Refuse a key that hands on more than it has itself: whoever stole it would gain. People may.

    Raises:
        ScopeMissing: saying which right is missing.
    """
    if isinstance(by, ApiKey):
        for gap in _delegation_gaps(settings, own=settings_of(by)):
            raise ScopeMissing(gap)
        # Each key has caps of its own: ten keys made by a capped one could spend ten times its cap.
        if settings.livemode and "predict" in settings.rights and is_capped(by):
            message = "This API key has a cap, so it cannot make keys that spend."
            raise ScopeMissing(message)


def _delegation_gaps(settings: KeySettings, *, own: KeySettings) -> Iterator[str]:
    yield from _right_gaps(settings, own=own)
    if own.expires_at and not (settings.expires_at and settings.expires_at <= own.expires_at):
        yield "This API key expires, so the keys it makes must expire no later."
    if own.rate_per_minute and not (settings.rate_per_minute and settings.rate_per_minute <= own.rate_per_minute):
        yield "This API key has a rate limit, so the keys it makes need one no higher."


def _right_gaps(settings: KeySettings, *, own: KeySettings) -> Iterator[str]:
    if settings.livemode and not own.livemode:
        yield "A test key cannot make live keys."
    for scope in sorted(settings.rights - own.rights):
        yield f"This API key cannot hand on {scope!r}, which it does not have."
    if own.allowed_models and not (settings.allowed_models and set(settings.allowed_models) <= set(own.allowed_models)):
        yield "This API key can only hand on the models on its own list."
    if own.allowed_cidrs and not (settings.allowed_cidrs and all(_is_within(cidr, own.allowed_cidrs) for cidr in settings.allowed_cidrs)):
        yield "This API key can only hand on the networks on its own list."


def _is_within(cidr: str, networks: Sequence[str]) -> bool:
    inner = ipaddress.ip_network(cidr)
    # Of another IP version means outside; `subnet_of` would raise.
    outer = [network for network in map(ipaddress.ip_network, networks) if network.version == inner.version]
    return any(inner.subnet_of(network) for network in outer)  # type: ignore[arg-type]  # One version, just compared.


@transaction.atomic
def issue_key(*, organization: Organization, name: str, settings: KeySettings, by: User | ApiKey | str) -> tuple[ApiKey, str]:
    """Create a key; return it with its secret, which is never readable again.

    Raises:
        KeyLimitReached: the organization already holds as many live keys as it may; nothing was made.
        KeySettingInvalid, KeyExpiryInPast: no key can have these settings.
        ScopeMissing: `by` is a key that has fewer rights itself.
    """
    _check_settings(settings)
    _check_delegation(settings, by=by)
    _check_room(organization)
    key, secret = _create(organization, name=name, settings=settings, by=by)
    audit.record(organization, action="key.issued", target=key, by=by, details={"name": name, "livemode": settings.livemode})
    return key, secret


def _check_room(organization: Organization) -> None:
    """Refuse one more live key than an organization may hold. One at a time: two at once would both find room.

    Raises:
        KeyLimitReached: it holds as many as it may.
    """
    Organization.objects.select_for_update().get(pk=organization.pk)
    if organization.keys.live().issued().count() >= site.MAX_KEYS:
        raise KeyLimitReached(limit=site.MAX_KEYS)


def issue_playground_key(
    *, organization: Organization, model: CatalogueModel, livemode: bool, rate_per_minute: int, by: User | None
) -> tuple[ApiKey, str]:
    """Create the short-lived key with which a page's playground makes real calls.

    It can only call the one model: a stranger holds a key of the model's owner, whose private
    models it must not reach. It expires within the hour and is not counted among the
    organization's keys. A test one (`livemode=False`) is free.
    """
    settings = KeySettings(
        kind=ApiKey.Kind.RESTRICTED,
        livemode=livemode,
        scopes=("predict",),
        allowed_models=(model.path,),
        rate_per_minute=rate_per_minute,
        expires_at=timezone.now() + timedelta(minutes=PLAYGROUND_MINUTES),
    )
    return _create(organization, name="Playground", settings=settings, by=by, playground=True)


def _create(
    organization: Organization,
    *,
    name: str,
    settings: KeySettings,
    by: User | ApiKey | str | None,
    playground: bool = False,
    cap_id: UUID | None = None,
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
        cap_id=cap_id or uuid7(),
        expires_at=settings.expires_at,
        created_by=by if isinstance(by, User) else None,
        playground=playground,
    )
    key_changed(key)  # A process may have cached that no such key exists.
    return key, secret


@transaction.atomic
def rotate_key(key: ApiKey, *, grace: timedelta, by: User | ApiKey | str) -> tuple[ApiKey, str]:
    """Replace a key: return a new one with the same settings and budget; the old one works for `grace` longer.

    Raises:
        KeyNotLive: the key was revoked or has expired; nothing was made.
        KeyLimitReached: with a grace both are live, and the organization may hold no more; nothing was made.
        ScopeMissing: `by` is a key that has fewer rights than the one it would learn.
    """
    key = ApiKey.objects.select_for_update().get(pk=key.pk)
    now = timezone.now()
    if key.revoked_at or (key.expires_at and key.expires_at <= now):
        raise KeyNotLive
    settings = settings_of(key)
    _check_delegation(settings, by=by)
    if grace:
        _check_room(key.organization)
    fresh, secret = _create(key.organization, name=key.name, settings=settings, by=by, cap_id=key.cap_id)
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
    """Set or lift what a key may spend in a UTC month. Lowering it below what was spent stops the key.

    Raises:
        ScopeMissing: `by` is a key that may lower this cap but not raise or lift it: it is capped
            itself, or lacks a right of the key that could then spend more. Nothing was changed.
    """
    # As it is now: what the caller read may have been lowered since, and lowering would raise it.
    before = ApiKey.objects.select_for_update().get(pk=key.pk).monthly_cap_nanos
    is_raise = before is not None and (cap_nanos is None or cap_nanos > before)
    if is_raise and isinstance(by, ApiKey):
        check_may_raise(key, by=by)
    key.monthly_cap_nanos = cap_nanos
    # A rotated key and the one before it, in its days of grace, spend from one budget: one cap.
    sharing = ApiKey.objects.filter(cap_id=key.cap_id)
    sharing.update(monthly_cap_nanos=cap_nanos)
    for other in sharing:
        key_changed(other)
    audit.record(key.organization, action="key.cap_set", target=key, by=by, details={"from_nanos": before, "to_nanos": cap_nanos})


def check_may_raise(key: ApiKey, *, by: ApiKey) -> None:
    """Refuse to let a key spend more on the word of one that could not spend as it does.

    Raises:
        ScopeMissing: saying why.
    """
    if is_capped(by):
        message = "This API key has a cap itself, so it may only lower caps."
        raise ScopeMissing(message)
    if any(_right_gaps(settings_of(key), own=settings_of(by))):
        message = "This API key has fewer rights than the other, so it may only lower its cap."
        raise ScopeMissing(message)


@transaction.atomic
def rename_key(key: ApiKey, *, name: str, by: User | ApiKey | str) -> None:
    """Give a key another name; what it may do stays as it is."""
    before = key.name
    key.name = name
    key.save(update_fields=["name"])
    audit.record(key.organization, action="key.renamed", target=key, by=by, details={"from": before, "to": name})
