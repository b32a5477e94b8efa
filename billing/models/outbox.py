"""What is to be asked of the payment provider, committed before it is asked."""

from django.db import models
from django.db.models import Q

from billing.ids import uuid7
from billing.models.accounts import Account


class OutboxRow(models.Model):
    """One request to the provider: written with the change that wants it, sent until it is answered.

    Its parameters never change: the provider refuses a known idempotency key with others.
    """

    class State(models.TextChoices):
        """What became of it."""

        WAITING = "waiting"  # To be sent, or sent without a known outcome.
        DONE = "done"
        REFUSED = "refused"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(Account, models.PROTECT, related_name="outbox_rows")
    kind = models.CharField(max_length=40)  # "checkout.create", "refund.create", ...
    subject = models.CharField(max_length=80)  # The id of the row that it is for.
    parameters = models.JSONField(default=dict)
    # Counts fresh idempotency keys: one is spent where the provider keeps a 500 under it, or forgot it.
    generation = models.PositiveSmallIntegerField(default=0)
    needs_lookup = models.BooleanField(default=False)  # Before it is sent again, see whether it happened.
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    first_sent_at = models.DateTimeField(null=True, blank=True)  # Under the present key.
    due_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "subject"], name="outbox_once_per_subject"),
            models.CheckConstraint(
                condition=Q(state="waiting", finished_at__isnull=True) | (~Q(state="waiting") & Q(finished_at__isnull=False)),
                name="outbox_finished_has_time",
            ),
        ]
        indexes = [models.Index(fields=["due_at"], name="outbox_due", condition=Q(state="waiting"))]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"

    @property
    def idempotency_key(self) -> str:
        """The key that it is sent under."""
        return f"farebox-{self.id.hex}-{self.generation}"
