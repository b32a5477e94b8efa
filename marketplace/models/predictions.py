"""What was asked of the gateway: the request log, and the replies kept for repeated requests."""

from typing import Final

from django.db import models

from billing.ids import uuid7
from marketplace.models.catalogue import ModelVersion
from marketplace.models.keys import ApiKey
from marketplace.models.tenants import Organization


class RequestLog(models.Model):
    """One call of a known caller, answered or refused. Written with its usage event."""

    # The routes that answer a prediction, on the native wire and on the Open Inference Protocol's; and all that run a model.
    PREDICTS: Final = ("predict", "infer")
    RUNS: Final = (*PREDICTS, "explain")

    id = models.UUIDField(primary_key=True)  # The Request-Id, and the usage event's id if there is one.
    # Without indexes of their own: each is one more page to write a call, and pages read by the two below.
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="requests", db_index=False)
    key = models.ForeignKey(ApiKey, models.CASCADE, related_name="requests", db_index=False)
    version = models.ForeignKey(ModelVersion, models.SET_NULL, null=True, related_name="+", db_index=False)
    livemode = models.BooleanField()
    route = models.CharField(max_length=20)  # "predict", "infer", "estimate", ...
    status = models.PositiveSmallIntegerField()
    code = models.CharField(max_length=40, blank=True)  # Of the refusal; empty if answered.
    unit = models.CharField(max_length=10, blank=True)
    units = models.PositiveBigIntegerField(default=0)
    charge_nanos = models.PositiveBigIntegerField(default=0)
    batch_rows = models.PositiveIntegerField(default=0)  # Rows that shared the run.
    # Where an answered call's time went, as in Server-Timing. What is left of `total_us` is rendering: the commit
    # that settles it writes this row, so its own time is not in it.
    auth_us = models.PositiveIntegerField(default=0, db_default=0)
    limit_us = models.PositiveIntegerField(default=0, db_default=0)
    queue_us = models.PositiveIntegerField(default=0)
    infer_us = models.PositiveIntegerField(default=0)
    total_us = models.PositiveIntegerField(default=0)
    occurred_at = models.DateTimeField()
    # The reply of an organization's first call, until its page has shown it. Otherwise empty.
    reply = models.TextField(blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["organization", "-occurred_at"], name="request_by_organization"),
            # With the status, so that calls are counted without looking each up.
            models.Index(fields=["occurred_at", "status"], name="request_by_time_and_status"),
            # Refused calls are few among many: who looks for them must not read all. Answered ones are not in it.
            models.Index(fields=["organization", "-occurred_at"], condition=models.Q(status__gte=400), name="request_refused"),
        ]

    def __str__(self) -> str:
        return f"{self.route} {self.status} {self.id}"


class IdempotencyRecord(models.Model):
    """One Idempotency-Key in use: claimed before the run, completed with the settled reply."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    livemode = models.BooleanField()
    route = models.CharField(max_length=200)  # The request's path.
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)  # Hexadecimal SHA-256 of the raw body.
    process = models.UUIDField(db_index=True)  # The gateway process that claimed it.
    status = models.PositiveSmallIntegerField(null=True)  # None: still running.
    headers = models.JSONField(default=list)
    body = models.BinaryField(default=b"")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "livemode", "route", "key"], name="idempotency_key_once"),
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotency_by_age")]

    def __str__(self) -> str:
        return f"{self.route} {self.key}"
