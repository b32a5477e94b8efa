"""The marketplace's tables, one file per subject."""

from marketplace.models.audit import AuditCheck, AuditEvent
from marketplace.models.caps import Cap
from marketplace.models.catalogue import CatalogueModel, ModelVersion
from marketplace.models.changes import ControlChange
from marketplace.models.jobs import Batch, Prediction
from marketplace.models.keys import ApiKey
from marketplace.models.predictions import IdempotencyRecord, RequestLog
from marketplace.models.reports import GatewayReport
from marketplace.models.tenants import Membership, Organization, User
from marketplace.models.webhooks import Notice, WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookMessage

__all__ = [
    "ApiKey",
    "AuditCheck",
    "AuditEvent",
    "Batch",
    "Cap",
    "CatalogueModel",
    "ControlChange",
    "GatewayReport",
    "IdempotencyRecord",
    "Membership",
    "ModelVersion",
    "Notice",
    "Organization",
    "Prediction",
    "RequestLog",
    "User",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookMessage",
]
