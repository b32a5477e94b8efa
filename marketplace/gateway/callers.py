"""Who calls: a key as the gateway keeps it in memory, and how it is loaded."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from django.conf import settings

from billing.agreements import Agreement, agreements_of
from billing.leases import BudgetSpec
from marketplace.errors import (
    AccountUnderReview,
    AddressNotAllowed,
    KeyExpired,
    KeyRevoked,
    ModelNotFound,
    OrganizationSuspended,
    ScopeMissing,
)
from marketplace.models import ApiKey, Cap
from marketplace.models.caps import BALANCE, INTERVALS, BudgetName

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One key with all that a call needs to know of it and of its organization."""

    key_id: UUID
    key_text: str  # The id as usage events name it.
    digest: str
    organization_id: UUID
    tenant: str  # The organization's id as text: unlike a UUID's, its hash is computed once.
    account_id: UUID
    currency: str  # The account's: what it pays in.
    livemode: bool
    kind: str
    scopes: frozenset[str]
    allowed_models: frozenset[str]
    networks: Sequence[Network]
    key_rate: int  # Calls per minute.
    organization_rate: int
    budgets: Sequence[BudgetSpec]  # Empty for a test key: it is never charged.
    agreements: Sequence[Agreement]  # The organization's plans. Empty for a test key.
    expires_at: float | None  # Unix seconds.
    revoked: bool
    suspended: bool
    under_review: bool  # It is not charged until the operator has looked at its books.
    awaits_first_call: bool
    keeps_answers: bool  # In memory, for the organization's next call with the same input.

    def check_usable(self, *, now: float, address: str) -> None:
        """Refuse a key that may not be used now or from there.

        Raises:
            KeyRevoked, KeyExpired, OrganizationSuspended, AddressNotAllowed.
        """
        self.check_live(now=now)
        if self.networks and not self._is_inside(address):
            raise AddressNotAllowed

    def check_live(self, *, now: float) -> None:
        """Refuse a key that may not be used now, from wherever it is.

        Raises:
            KeyRevoked, KeyExpired, OrganizationSuspended.
        """
        if self.revoked:
            raise KeyRevoked
        if self.expires_at is not None and now >= self.expires_at:
            raise KeyExpired
        if self.suspended:
            raise OrganizationSuspended

    def check_scope(self, scope: str) -> None:
        """Refuse what the key's kind and scopes do not allow.

        Raises:
            ScopeMissing: it lacks `scope`.
            AccountUnderReview: calls would be charged, and the account's books do not balance.
        """
        if self.under_review and scope == "predict" and self.livemode:
            raise AccountUnderReview
        if self.kind == "sk" or (self.kind == "rk" and scope in self.scopes) or (self.kind == "mk" and scope != "predict"):
            return
        message = f"This API key lacks the scope {scope!r}."
        raise ScopeMissing(message)

    def check_model(self, path: str) -> None:
        """Refuse a model that is not on the key's list, as if it were absent.

        Raises:
            ModelNotFound: the key has a list, and the model is not on it.
        """
        if not self.may_call(path):
            raise ModelNotFound

    def may_call(self, path: str) -> bool:
        """Whether the key's list, if it has one, names the model."""
        return not self.allowed_models or path in self.allowed_models

    def _is_inside(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)


def load_caller(digest: str) -> Caller | None:
    """Read a key from the database; None where there is none. Blocks on I/O."""
    key = ApiKey.objects.select_related("organization__account").filter(digest=digest).first()
    if key is None:
        return None
    caps = Cap.objects.filter(organization=key.organization_id, subject__in=[name.subject for name in _names(key)])
    limits = {subject: limit for subject, limit in caps.values_list("subject", "limit_nanos") if limit is not None}
    return caller_of(key, caps=limits, agreements=agreements_of(key.organization.account_id) if key.livemode else ())


def caller_of(key: ApiKey, *, caps: Mapping[str, int] | None = None, agreements: Sequence[Agreement] = ()) -> Caller:
    """Return a key, read with its organization, as what it may do. Does no I/O.

    Args:
        key: The key.
        caps: Limits by subject, in nanos; needed where calls are to be charged.
        agreements: The organization's plans; likewise.
    """
    organization = key.organization
    account_id: UUID = organization.account_id
    default_rate = settings.LIVE_KEY_RATE_PER_MINUTE if key.livemode else settings.TEST_KEY_RATE_PER_MINUTE
    return Caller(
        key_id=key.pk,
        key_text=str(key.pk),
        digest=key.digest,
        organization_id=organization.pk,
        tenant=organization.pk.hex,
        account_id=account_id,
        currency=organization.account.currency,
        livemode=key.livemode,
        kind=key.kind,
        scopes=frozenset(key.scopes),
        allowed_models=frozenset(key.allowed_models),
        networks=[ipaddress.ip_network(cidr) for cidr in key.allowed_cidrs],
        key_rate=key.rate_per_minute or default_rate,
        organization_rate=settings.ORGANIZATION_RATE_PER_MINUTE,
        budgets=_budgets(key, account_id, caps or {}) if key.livemode else (),
        agreements=agreements,
        expires_at=key.expires_at.timestamp() if key.expires_at else None,
        revoked=key.revoked_at is not None,
        suspended=organization.suspended_at is not None,
        under_review=organization.account.under_review_at is not None,
        awaits_first_call=organization.first_call_at is None,
        keeps_answers=organization.response_cache,
    )


def _names(key: ApiKey) -> list[BudgetName]:
    """The budgets that can stop a key's calls beside the balance, from the widest to the narrowest."""
    widest_first = INTERVALS[::-1]
    return [
        *(BudgetName("organization", interval) for interval in widest_first),
        *(BudgetName("key", interval, key.cap_id) for interval in widest_first),
    ]


def _budgets(key: ApiKey, account_id: UUID, caps: Mapping[str, int]) -> Sequence[BudgetSpec]:
    """The account's balance, and each cap that is set on the organization or the key."""
    specs = [BudgetSpec(account_id=account_id, subject=BALANCE.subject, interval=BALANCE.interval, limit_nanos=None)]
    limits: dict[str, int | None] = {**caps, key.budget_subject: key.monthly_cap_nanos}
    for name in _names(key):
        limit = limits.get(name.subject)
        if limit is not None:
            specs.append(BudgetSpec(account_id=account_id, subject=name.subject, interval=name.interval, limit_nanos=limit))
    return specs
