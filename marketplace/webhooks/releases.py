"""Tell whom it concerns that a model's version was published or retired: its owner, and who called the model lately."""

from datetime import timedelta
from typing import Final

from django.utils import timezone

from billing.ids import public_id
from billing.models import UsageRollup
from marketplace.models import ModelVersion, Organization, WebhookEndpoint
from marketplace.webhooks.outbox import emit

# Whoever has not called a model for so long does not depend on it.
_LATELY: Final = timedelta(days=30)


def tell_published(version: ModelVersion) -> None:
    """Tell of a version that went live, in the transaction in which it did."""
    _tell(version, "version.published")


def tell_retired(version: ModelVersion) -> None:
    """Tell of a version that is no longer sold, in the transaction in which it ended."""
    _tell(version, "version.retired")


def _tell(version: ModelVersion, event: str) -> None:
    model = version.model
    fields = {
        "object": "model_version",
        "id": public_id("ver", version.pk),
        "model": model.path,
        "version": version.number,
        "digest": version.digest,
    }
    # Endpoints first: most organizations have none, and a model may have many callers.
    listening = Organization.objects.filter(pk__in=WebhookEndpoint.objects.filter(disabled_at__isnull=True).values("organization_id"))
    for organization in listening:
        if organization.pk == model.owner_id or _calls(organization, model.path):
            emit(organization, event, fields)


def _calls(organization: Organization, path: str) -> bool:
    since = timezone.now() - _LATELY
    return UsageRollup.objects.filter(account_id=organization.account_id, hour__gte=since, sku__startswith=f"{path}@").exists()
