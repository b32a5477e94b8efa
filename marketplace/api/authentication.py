"""Who calls the REST API: the same keys, checked by the same rules as the gateway's."""

import time
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from marketplace.credentials import bearer_secret, check_form, digest
from marketplace.errors import KeyUnknown
from marketplace.gateway.callers import caller_of
from marketplace.models import ApiKey, Organization

# One write a minute and key is enough to tell a key in use from a forgotten one.
_TOUCH_INTERVAL: Final = timedelta(minutes=1)


class KeyAuthentication(BaseAuthentication):
    """Takes `Authorization: Bearer <key>`; nothing else signs in here, cookies least of all."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey]:
        """Return nobody in particular, and the key, read with its organization and account.

        Reads the database each time, not the gateway's snapshot: it fails closed with it.

        Raises:
            KeyMissing, KeyMalformed, KeyMistyped, KeyUnknown, KeyRevoked, KeyExpired: 401.
            OrganizationSuspended, AddressNotAllowed: 403.
        """
        key = usable_key(request.META.get("HTTP_AUTHORIZATION"), address=client_address(request._request))  # noqa: SLF001 (DRF names it so)
        _touch(key)
        return AnonymousUser(), key


def usable_key(authorization: str | None, *, address: str) -> ApiKey:
    """Return the key of an Authorization header, read with its organization and account; raises as `authenticate` does."""
    secret = bearer_secret(authorization)
    check_form(secret)
    key = ApiKey.objects.select_related("organization__account").filter(digest=digest(secret)).first()
    if key is None:
        raise KeyUnknown
    caller_of(key).check_usable(now=time.time(), address=address)
    return key


def client_address(request: HttpRequest) -> str:
    """Return the caller's address: the peer's, or what a trusted proxy says of it."""
    return address_behind(str(request.META.get("REMOTE_ADDR", "")), request.META.get("HTTP_X_FORWARDED_FOR"))


def address_behind(peer: str, forwarded: str | None) -> str:
    """Return the address behind a peer that may be a trusted proxy.

    Only the last X-Forwarded-For entry is believed: it is the one our own proxy appended.
    """
    if forwarded and peer in settings.TRUSTED_PROXIES:
        return forwarded.rsplit(",", 1)[-1].strip()
    return peer


def key_of(request: Request) -> ApiKey:
    """Return the key that the request came with."""
    key = request.auth
    assert isinstance(key, ApiKey)
    return key


def tenant_of(request: Request) -> Organization:
    """Return the caller's organization: every query starts from it."""
    organization: Organization = key_of(request).organization
    return organization


def _touch(key: ApiKey) -> None:
    """Note that the key was used, unless that is noted already. No row lock, no lost update."""
    now = timezone.now()
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - _TOUCH_INTERVAL)
    if key.last_used_at is None or key.last_used_at < now - _TOUCH_INTERVAL:
        ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=now)
