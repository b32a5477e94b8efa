"""The marketplace's tables, one file per subject."""

from marketplace.models.audit import AuditCheck, AuditEvent
from marketplace.models.catalogue import CatalogueModel, ModelVersion
from marketplace.models.changes import ControlChange
from marketplace.models.keys import ApiKey
from marketplace.models.predictions import IdempotencyRecord, RequestLog
from marketplace.models.tenants import Membership, Organization, User

__all__ = [
    "ApiKey",
    "AuditCheck",
    "AuditEvent",
    "CatalogueModel",
    "ControlChange",
    "IdempotencyRecord",
    "Membership",
    "ModelVersion",
    "Organization",
    "RequestLog",
    "User",
]
