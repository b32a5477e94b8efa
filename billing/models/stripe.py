"""The inbox of the provider's webhooks."""

from django.db import models
from django.db.models import Q


class StripeEvent(models.Model):
    """A webhook as it came, once per event id. Append-only."""

    event_id = models.CharField(max_length=120, primary_key=True)
    type = models.CharField(max_length=80)
    object_id = models.CharField(max_length=120)
    connected_id = models.CharField(max_length=80, blank=True, default="")  # The connected account that it happened in; empty: ours.
    livemode = models.BooleanField()
    occurred_at = models.DateTimeField()  # The provider's clock.
    received_at = models.DateTimeField(auto_now_add=True)
    body = models.TextField()

    class Meta:
        indexes = [models.Index(fields=["occurred_at"], name="stripe_event_by_time")]

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"


class StripeEventWork(models.Model):
    """How far the applying of an event is: the fact beside it never changes, this does."""

    class Outcome(models.TextChoices):
        """What became of it."""

        WAITING = "waiting"
        APPLIED = "applied"
        IGNORED = "ignored"  # Of a type that we do not act on, or about something that is not ours.

    event = models.OneToOneField(StripeEvent, models.PROTECT, primary_key=True, related_name="work")
    outcome = models.CharField(max_length=10, choices=Outcome, default=Outcome.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField()
    applied_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        indexes = [models.Index(fields=["due_at"], name="stripe_event_due", condition=Q(outcome="waiting"))]

    def __str__(self) -> str:
        return f"{self.event_id}: {self.outcome}"


class StripeCatchUp(models.Model):
    """Up to when the provider's own list of events was read to its end. One row.

    The newest event that came by itself does not tell: after a silence the next webhook is new,
    and all before it are missing.
    """

    name = models.CharField(max_length=20, unique=True)
    reached_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} to {self.reached_at:%Y-%m-%d %H:%M}"
