"""Webhooks out: where organizations want to be told, what there is to tell, and each attempt to tell it."""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from billing.ids import uuid7
from marketplace.models.tenants import Organization


class WebhookEndpoint(models.Model):
    """An address of an organization that is told of events."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="webhook_endpoints")
    url = models.CharField(max_length=500)
    description = models.CharField(max_length=80, blank=True)
    # Event types; ["*"] is all. None: only what a prediction or batch names it for.
    events = models.JSONField(default=list)
    secret = models.TextField(editable=False)  # Sealed: signing needs it back.
    # After a rotation the old secret signs beside the new one for a while.
    old_secret = models.TextField(blank=True, editable=False)
    old_secret_until = models.DateTimeField(null=True, blank=True)
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "url"], name="webhook_url_once")]

    def __str__(self) -> str:
        return self.url


class WebhookMessage(models.Model):
    """One event that happened, as it is sent: the same bytes at every attempt. This row is the outbox."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)  # The webhook-id.
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="webhook_messages")
    type = models.CharField(max_length=40)
    body = models.TextField()  # {"type", "timestamp", "data"}, under 20 kB.
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class WebhookDelivery(models.Model):
    """One message on its way to one endpoint."""

    class State(models.TextChoices):
        """How far it got."""

        PENDING = "pending", _("Pending")
        DELIVERED = "delivered", _("Delivered")
        FAILED = "failed", _("Failed")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    message = models.ForeignKey(WebhookMessage, models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(WebhookEndpoint, models.CASCADE, related_name="deliveries", db_index=False)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField()
    claimed_until = models.DateTimeField(null=True)  # Somebody delivers it now.
    last_status = models.PositiveSmallIntegerField(null=True)  # None: no answer.
    last_error = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["message", "endpoint"], name="webhook_message_once_per_endpoint")]
        indexes = [
            models.Index(fields=["due_at"], name="webhook_due", condition=Q(state="pending")),
            models.Index(fields=["endpoint", "-created_at"], name="webhook_by_endpoint"),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.id}"


class WebhookAttempt(models.Model):
    """One HTTP request of a delivery, and what came back."""

    delivery = models.ForeignKey(WebhookDelivery, models.CASCADE, related_name="tries")
    number = models.PositiveSmallIntegerField()
    status = models.PositiveSmallIntegerField(null=True)  # None: no answer.
    error = models.CharField(max_length=200, blank=True)
    took_ms = models.PositiveIntegerField()
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.number}: {self.status or self.error}"


class Notice(models.Model):
    """That an organization was told of something that is told once, such as 80 % of a budget."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    about = models.CharField(max_length=160)  # "budget:account:1970-01-01:5000000000:80".
    mail = models.JSONField(null=True, blank=True)  # What owners are told by mail, too; None: nothing.
    mailed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "about"], name="notice_once")]
        indexes = [models.Index(fields=["id"], name="notice_unmailed", condition=Q(mail__isnull=False, mailed_at__isnull=True))]

    def __str__(self) -> str:
        return self.about
