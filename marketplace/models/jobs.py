"""Work that nobody waits for on the line: asynchronous predictions, alone or as the rows of a batch."""

from typing import ClassVar, Final

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from billing.ids import uuid7
from marketplace.models.catalogue import ModelVersion
from marketplace.models.keys import ApiKey
from marketplace.models.tenants import Organization
from marketplace.models.webhooks import WebhookEndpoint


class Batch(models.Model):
    """A file of predictions for one version, run when nobody else needs the workers."""

    class Status(models.TextChoices):
        """Where a batch is in its life."""

        CREATING = "creating", _("Reading the file")
        QUEUED = "queued", _("Queued")
        RUNNING = "running", _("Running")
        PAUSED = "paused", _("Paused")
        COMPLETED = "completed", _("Completed")
        CANCELLED = "cancelled", _("Cancelled")

    OPEN: Final = (Status.QUEUED, Status.RUNNING, Status.PAUSED)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="batches")
    key = models.ForeignKey(ApiKey, models.CASCADE, related_name="+")
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    livemode = models.BooleanField()
    status = models.CharField(max_length=10, choices=Status, default=Status.CREATING)
    rows = models.PositiveIntegerField()
    input_bytes = models.PositiveBigIntegerField()
    # Why it is paused, or why its last rows were not run: the code of a problem.
    reason = models.CharField(max_length=40, blank=True)
    not_before = models.DateTimeField(null=True)  # Paused: when one row is tried again.
    endpoint = models.ForeignKey(WebhookEndpoint, models.SET_NULL, null=True, related_name="+")  # To be told beside the subscribers.
    announced = models.BooleanField(default=False)  # Its end was put into the webhooks' outbox.
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["completed", "cancelled"], ended_at__isnull=False)
                | Q(status__in=["creating", "queued", "running", "paused"], ended_at__isnull=True),
                name="batch_ended_with_its_time",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-created_at"], name="batch_by_organization"),
            models.Index(fields=["created_at"], name="batch_open", condition=Q(ended_at__isnull=True)),
            models.Index(fields=["ended_at"], name="batch_by_end"),
        ]

    def __str__(self) -> str:
        return f"{self.rows} rows for {self.version}"


class PredictionQuerySet(models.QuerySet["Prediction"]):
    """Which predictions are meant."""

    def alone(self) -> "PredictionQuerySet":
        """Those that are no batch's rows."""
        return self.filter(batch__isnull=True)

    def unended(self) -> "PredictionQuerySet":
        """Those that may still run."""
        return self.filter(status__in=Prediction.UNENDED)


class Prediction(models.Model):
    """One call to be made when there is room. Its id is also its request's and its usage event's.

    So it can be charged once only, whoever runs it however often: a second event of that id is
    refused, and the update that keeps the result finds the row ended.
    """

    class Status(models.TextChoices):
        """Where a prediction is in its life."""

        QUEUED = "queued", _("Queued")
        RUNNING = "running", _("Running")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    UNENDED: Final = (Status.QUEUED, Status.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="predictions", db_index=False)
    key = models.ForeignKey(ApiKey, models.CASCADE, related_name="+")
    batch = models.ForeignKey(Batch, models.CASCADE, null=True, related_name="predictions", db_index=False)
    line = models.PositiveIntegerField(default=0)  # In the batch's file, from 1.
    custom_id = models.CharField(max_length=64, blank=True)  # The caller's own name for the line.
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+", db_index=False)  # Chosen when it was accepted.
    livemode = models.BooleanField()
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    input = models.BinaryField()  # The body of a predict call; emptied when it ends.
    output = models.BinaryField(default=b"")  # The body of the reply.
    error = models.JSONField(null=True)  # {"code", "status", "detail"} of a failed one.
    unit = models.CharField(max_length=10, blank=True)
    units = models.PositiveBigIntegerField(default=0)
    charge_nanos = models.PositiveBigIntegerField(default=0)
    stored_bytes = models.PositiveBigIntegerField()  # Of input and output, with what a row takes.
    attempts = models.PositiveSmallIntegerField(default=0)  # That ended in a failure worth another.
    not_before = models.DateTimeField(null=True)
    claim = models.UUIDField(null=True)  # Who runs it now,
    claimed_until = models.DateTimeField(null=True)  # and until when that is believed.
    endpoint = models.ForeignKey(WebhookEndpoint, models.SET_NULL, null=True, related_name="+", db_index=False)
    announced = models.BooleanField(default=False)  # A batch's rows are announced with it.
    created_at = models.DateTimeField()  # The price is the one of this moment.
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    objects: ClassVar[models.Manager["Prediction"]] = PredictionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["batch", "line"], condition=Q(batch__isnull=False), name="prediction_line_once"),
            models.CheckConstraint(
                condition=Q(status__in=["queued", "running"], ended_at__isnull=True)
                | Q(status__in=["succeeded", "failed", "cancelled"], ended_at__isnull=False),
                name="prediction_ended_with_its_time",
            ),
            models.CheckConstraint(condition=Q(status="succeeded") | Q(charge_nanos=0), name="prediction_charged_with_result"),
        ]
        indexes = [
            models.Index(fields=["organization", "-created_at"], name="prediction_alone", condition=Q(batch__isnull=True)),
            models.Index(
                fields=["batch", "organization", "created_at"], name="prediction_unended", condition=Q(status__in=["queued", "running"])
            ),
            models.Index(fields=["batch", "status"], name="prediction_progress", condition=Q(batch__isnull=False)),
            models.Index(
                fields=["ended_at"], name="prediction_unannounced", condition=Q(announced=False, batch__isnull=True, ended_at__isnull=False)
            ),
            models.Index(fields=["ended_at"], name="prediction_by_end"),
            models.Index(fields=["organization", "stored_bytes"], name="prediction_stored"),
        ]

    def __str__(self) -> str:
        return f"{self.status} {self.id}"
