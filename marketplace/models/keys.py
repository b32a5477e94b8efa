"""API keys: what is stored of them is never enough to use one."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from billing.ids import uuid7
from marketplace.models.tenants import Organization, User


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    """Which keys are meant."""

    def live(self) -> "ApiKeyQuerySet":
        """Keys that work now: neither revoked nor expired, by the database's clock."""
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=Now()), revoked_at__isnull=True)

    def issued(self) -> "ApiKeyQuerySet":
        """Keys that people made, without the short-lived ones of the playground."""
        return self.filter(playground=False)

    def of_members_playgrounds(self) -> "ApiKeyQuerySet":
        """Short-lived keys that spend the organization's credit; a stranger's, on its model, is a test key."""
        return self.filter(playground=True, livemode=True)


class ApiKey(models.Model):
    """A credential of one organization, stored as the HMAC of its secret."""

    class Kind(models.TextChoices):
        """What a key is for; the second part of its text."""

        SECRET = "sk", _("Secret: everything")
        RESTRICTED = "rk", _("Restricted: what its scopes name")
        MANAGEMENT = "mk", _("Management: no model calls")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="keys")
    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=2, choices=Kind, default=Kind.SECRET)
    livemode = models.BooleanField(default=True)  # False: a test key, never charged.
    digest = models.CharField(max_length=64, unique=True, editable=False)  # Hexadecimal HMAC-SHA-256.
    pepper_version = models.PositiveSmallIntegerField(editable=False)
    display_start = models.CharField(max_length=16, editable=False)
    last4 = models.CharField(max_length=4, editable=False)
    scopes = models.JSONField(default=list)  # Of a restricted key: ["predict", "usage:read", ...].
    allowed_models = models.JSONField(default=list)  # ["farebox/sentiment"]; empty allows all.
    allowed_cidrs = models.JSONField(default=list)  # ["203.0.113.0/24"]; empty allows all.
    rate_per_minute = models.PositiveIntegerField(null=True, blank=True)  # None: the site's default.
    # Names the key's monthly budget. A rotated key keeps it: rotating must not refill the cap.
    cap_id = models.UUIDField(default=uuid7, editable=False, db_index=True)
    monthly_cap_nanos = models.PositiveBigIntegerField(null=True, blank=True)  # None: no cap of its own.
    playground = models.BooleanField(default=False, editable=False)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager["ApiKey"]] = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        indexes = [models.Index(fields=["organization", "-created_at"], name="key_by_organization")]

    def __str__(self) -> str:
        return f"{self.display_start}...{self.last4}"

    @property
    def budget_subject(self) -> str:
        """What billing calls the budget of the key's monthly cap."""
        return f"key:{self.cap_id}"

    @property
    def masked(self) -> str:
        """The key as it may be shown: its start and its last four characters."""
        return f"{self.display_start}…{self.last4}"
