from typing import Any

from django.conf import settings
from django.db import migrations
from django.utils import timezone

HOUSE = "farebox"  # The operator's own models: the site keeps all.


def start_shares(apps: Any, schema_editor: Any) -> None:  # noqa: ARG001 (RunPython's signature)
    """Have the owners of models that are sold earn from this hour on; hours before were promised to nobody."""
    version = apps.get_model("marketplace", "ModelVersion")
    share = apps.get_model("billing", "SkuShare")
    price = apps.get_model("billing", "Price")
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    sold = version.objects.filter(published_at__isnull=False).exclude(model__owner__slug=HOUSE)
    for one in sold.select_related("model__owner").order_by("model", "number"):
        path = f"{one.model.owner.slug}/{one.model.name}"
        sku = f"{path}@{one.number}"
        # Prices from before there were meters name none.
        for subject in {path, sku} if price.objects.filter(sku=sku, meter="").exists() else {path}:
            if not share.objects.filter(subject=subject).exists():
                share.objects.create(
                    subject=subject,
                    payee_id=one.model.owner.account_id,
                    fee_basis_points=settings.PLATFORM_FEE_BASIS_POINTS,
                    effective_from=hour,
                    by="upgrade",
                )


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0010_usage_postings"),
        ("marketplace", "0011_response_cache"),
    ]

    operations = [migrations.RunPython(start_shares, migrations.RunPython.noop)]
