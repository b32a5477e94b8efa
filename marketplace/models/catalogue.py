"""What is sold: models and their published versions."""

from typing import ClassVar

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from billing.ids import uuid7
from marketplace.models.tenants import Organization

model_name = RegexValidator(r"\A[a-z0-9](?:[a-z0-9]|-(?=[a-z0-9])){0,39}\Z", _("Lowercase letters, digits and single hyphens."))


class CatalogueModel(models.Model):
    """A model in the catalogue, `owner/name`. Its versions are what is called."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(Organization, models.PROTECT, related_name="models")
    name = models.CharField(max_length=40, validators=[model_name])
    title = models.CharField(max_length=80)
    summary = models.CharField(max_length=200)
    card_markdown = models.TextField(blank=True)
    task = models.CharField(max_length=40)  # "text-classification", as model hubs name tasks.
    public = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="model_name_once_per_owner")]

    def __str__(self) -> str:
        return self.path

    @property
    def path(self) -> str:
        """`owner/name`, as it stands in URLs and on bills."""
        return f"{self.owner.slug}/{self.name}"


class ModelVersion(models.Model):
    """One published artifact of a model. Its files and its price never change."""

    class State(models.TextChoices):
        """Where a version is in its life: it goes down this list, and never back."""

        DRAFT = "draft", _("Waiting to be examined")
        VALIDATING = "validating", _("Being examined")
        FAILED = "failed", _("Failed")
        READY = "ready", _("Ready")
        LIVE = "live", _("Live")
        RETIRED = "retired", _("Retired")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    model = models.ForeignKey(CatalogueModel, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State, default=State.DRAFT)
    folder = models.CharField(max_length=200)  # Below ARTIFACTS_DIR.
    artifact = models.CharField(max_length=80, default="model.onnx")
    digest = models.CharField(max_length=64)  # Hexadecimal SHA-256 of the artifact, checked at every load.
    size_bytes = models.PositiveBigIntegerField()
    card = models.JSONField(default=dict)  # Facts of the model card: accuracy, data, licence.
    # What the publish gate found (`inference.gate.report.Report.as_json`); None before it has.
    report = models.JSONField(null=True, blank=True)
    # How far an int8 model's answers may be from float32's on the samples; None: none is made.
    int8_tolerance = models.FloatField(null=True, blank=True)
    # The int8 model beside the artifact, made and kept by the gate; empty where there is none.
    int8_digest = models.CharField(max_length=64, blank=True)
    int8_size_bytes = models.PositiveBigIntegerField(default=0)
    # Who examines it holds it until then, and says so again meanwhile; afterwards another may. Each try counts.
    claimed_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    # Share of the calls that name no version, relative to the model's other live versions.
    traffic_weight = models.PositiveIntegerField(default=1)
    # Most bytes of a call's body; empty for the site's (MAX_BODY_BYTES, or MAX_TENSOR_BODY_BYTES without a pipeline).
    max_body_bytes = models.PositiveIntegerField(null=True, blank=True)
    # Whether callers may send NaN and infinities, which JSON cannot hold but binary tensors can.
    allow_nonfinite = models.BooleanField(default=False)
    # How its rows wait and run together (`inference.batching.BatchLimits`); empty for the engine's defaults.
    max_batch_rows = models.PositiveSmallIntegerField(null=True, blank=True)
    max_batch_tokens = models.PositiveIntegerField(null=True, blank=True)  # Rows x longest.
    max_queue_delay_us = models.PositiveIntegerField(null=True, blank=True)
    max_queue_rows = models.PositiveIntegerField(null=True, blank=True)
    published_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["model", "number"], name="version_number_once_per_model"),
            models.CheckConstraint(condition=Q(number__gt=0), name="version_number_positive"),
            models.CheckConstraint(
                condition=(Q(max_batch_rows=None) | Q(max_batch_rows__range=(1, 256)))
                & (Q(max_batch_tokens=None) | Q(max_batch_tokens__gte=1))
                & (Q(max_queue_delay_us=None) | Q(max_queue_delay_us__lte=1_000_000))
                & (Q(max_queue_rows=None) | Q(max_queue_rows__gte=1))
                & (Q(max_body_bytes=None) | Q(max_body_bytes__gte=1024)),
                name="version_limits_sane",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["draft", "validating", "failed", "ready", "live", "retired"]), name="version_state_known"
            ),
            # Calls find versions by state alone: one that was never published must not pass for one that was.
            models.CheckConstraint(condition=~Q(state="ready") | Q(report__isnull=False), name="version_ready_after_report"),
            models.CheckConstraint(condition=~Q(state="validating") | Q(claimed_until__isnull=False), name="version_validating_is_claimed"),
        ]
        indexes = [
            # The sweep asks every few seconds for what waits; versions that do not are left out of the index.
            models.Index(fields=["created_at"], condition=Q(state__in=["draft", "validating"]), name="version_to_examine"),
        ]

    def __str__(self) -> str:
        return self.sku

    @staticmethod
    def published() -> Q:
        """Return the condition of versions that others than the owner may know of: live, or once live."""
        return Q(state=ModelVersion.State.LIVE) | Q(state=ModelVersion.State.RETIRED, published_at__isnull=False)

    @property
    def has_int8(self) -> bool:
        """Whether an int8 model was made and kept."""
        return bool(self.int8_digest)

    @property
    def sku(self) -> str:
        """What the bill calls it: `owner/name@number`."""
        return f"{self.model.path}@{self.number}"
