"""Calls as the gateway records them, without a gateway: log line, usage event and hourly sum."""

from datetime import datetime

from django.utils import timezone

from billing.ids import uuid7
from billing.models import GatewayProcess, Price, UsageEvent, UsageRollup
from marketplace.models import ApiKey, ModelVersion, RequestLog


def record_call(
    key: ApiKey,
    version: ModelVersion,
    *,
    tokens: int = 10,
    status: int = 200,
    code: str = "",
    at: datetime | None = None,
    total_us: int = 5_000,
    reply: str = "",
) -> RequestLog:
    """Record one call; only an answered one has a usage event."""
    moment = at or timezone.now()
    price = Price.objects.get(sku=version.sku)
    answered = status == 200
    charge = tokens * price.unit_nanos if answered and key.livemode else 0
    call = RequestLog.objects.create(
        id=uuid7(),
        organization=key.organization,
        key=key,
        version=version,
        livemode=key.livemode,
        route="predict",
        status=status,
        code=code,
        unit="token",
        units=tokens,
        charge_nanos=charge,
        batch_rows=1,
        auth_us=250 if status == 200 else 0,
        limit_us=500 if status == 200 else 0,
        queue_us=1_000 if status == 200 else 0,
        infer_us=3_000 if status == 200 else 0,
        total_us=total_us,
        occurred_at=moment,
        reply=reply,
    )
    if answered:
        _record_usage(call, price if key.livemode else None)
    return call


def _record_usage(call: RequestLog, price: Price | None) -> None:
    assert call.version is not None
    account = call.organization.account
    now = timezone.now()
    process, _ = GatewayProcess.objects.get_or_create(started_at=now, defaults={"heartbeat_at": now})
    UsageEvent.objects.create(
        id=call.pk,
        account=account,
        price=price,
        sku=call.version.sku,
        unit=call.unit,
        units=call.units,
        charge_nanos=call.charge_nanos,
        livemode=call.livemode,
        source=str(call.key.pk),
        process=process,
        seq=UsageEvent.objects.count() + 1,
        replayable=False,
        occurred_at=call.occurred_at,
    )
    rollup, _ = UsageRollup.objects.get_or_create(
        account=account,
        price=price,
        sku=call.version.sku,
        unit=call.unit,
        livemode=call.livemode,
        source=str(call.key.pk),
        hour=call.occurred_at.replace(minute=0, second=0, microsecond=0),
        defaults={"events": 0, "units": 0, "charge_nanos": 0},
    )
    rollup.events += 1
    rollup.units += call.units
    rollup.charge_nanos += call.charge_nanos
    rollup.save(update_fields=["events", "units", "charge_nanos"])
