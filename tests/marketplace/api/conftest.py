"""A client of the REST API, and usage to be shown, written as the gateway writes it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from billing.ids import uuid7
from billing.models import GatewayProcess, Price, UsageEvent, UsageRollup
from billing.periods import hour_of
from marketplace.credentials import digest
from marketplace.keys import KeySettings, issue_key
from marketplace.models import ApiKey, ModelVersion, Organization, RequestLog


class Api:
    """Calls the REST API with one key, JSON in and out."""

    def __init__(self, secret: str | None) -> None:
        self.client = Client(raise_request_exception=False)
        self.headers = {"authorization": f"Bearer {secret}"} if secret else {}

    def get(self, path: str, query: dict[str, Any] | None = None, **headers: str) -> Any:
        """Read."""
        return self.client.get(path, query or {}, headers={**self.headers, **headers})

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Send JSON, or raw bytes."""
        return self.client.generic(
            method, path, body if isinstance(body, bytes) else json.dumps(body or {}), "application/json", headers=self.headers
        )

    def post(self, path: str, body: Any = None) -> Any:
        """Create, or do."""
        return self.send("POST", path, body)

    def upload(self, path: str, form: dict[str, Any]) -> Any:
        """Send a form; bytes are files."""
        fields = {name: SimpleUploadedFile(name, value) if isinstance(value, bytes) else value for name, value in form.items()}
        return self.client.post(path, fields, headers=self.headers)

    def patch(self, path: str, body: Any = None) -> Any:
        """Change."""
        return self.send("PATCH", path, body)

    def delete(self, path: str) -> Any:
        """End."""
        return self.client.delete(path, headers=self.headers)


@pytest.fixture(autouse=True)
def _cold_cache() -> None:
    cache.clear()


@pytest.fixture
def api(live_key: str) -> Api:
    """The API as the organization's live secret key sees it."""
    return Api(live_key)


@pytest.fixture
def key(live_key: str) -> ApiKey:
    return ApiKey.objects.get(digest=digest(live_key))


@pytest.fixture
def make_api(organization: Organization) -> Callable[..., Api]:
    """Make a key with such settings, and return the API as it sees it."""

    def make(*, kind: str = "sk", **settings: Any) -> Api:
        asked = KeySettings(kind=ApiKey.Kind(kind), **settings)
        return Api(issue_key(organization=organization, name="Made", settings=asked, by="test")[1])

    return make


@pytest.fixture
def use(sentiment: ModelVersion) -> Callable[..., RequestLog]:
    """Write one answered call: its event, its hour's sum and its line in the log."""
    process = GatewayProcess.objects.create(started_at=datetime.now(UTC), heartbeat_at=datetime.now(UTC))
    price = Price.objects.get(sku=sentiment.sku)

    def write(key: ApiKey, *, units: int = 11, at: datetime | None = None, total_us: int = 2000) -> RequestLog:
        at = at or datetime.now(UTC)
        charge = units * price.unit_nanos if key.livemode else 0
        account = key.organization.account
        shared = {
            "account": account,
            "price": price,
            "sku": sentiment.sku,
            "unit": price.unit,
            "livemode": key.livemode,
            "source": str(key.pk),
        }
        event = UsageEvent.objects.create(
            id=uuid7(),
            **shared,
            units=units,
            charge_nanos=charge,
            process=process,
            seq=UsageEvent.objects.count() + 1,
            replayable=False,
            occurred_at=at,
        )
        rollup, _ = UsageRollup.objects.get_or_create(**shared, hour=hour_of(at), defaults={"events": 0, "units": 0, "charge_nanos": 0})
        rollup.events, rollup.units, rollup.charge_nanos = rollup.events + 1, rollup.units + units, rollup.charge_nanos + charge
        rollup.save()
        return RequestLog.objects.create(
            id=event.pk,
            organization=key.organization,
            key=key,
            version=sentiment,
            livemode=key.livemode,
            route="predict",
            status=200,
            unit=price.unit,
            units=units,
            charge_nanos=charge,
            batch_rows=1,
            auth_us=40,
            limit_us=60,
            queue_us=100,
            infer_us=900,
            total_us=total_us,
            occurred_at=at,
        )

    return write


@pytest.fixture
def same_but_id() -> Callable[..., bool]:
    """Whether two replies agree in status and body, byte for byte but for the request id."""

    def compare(first: Any, second: Any) -> bool:
        bodies = [reply.content.replace(reply.headers["Request-Id"].encode(), b"") for reply in (first, second)]
        return first.status_code == second.status_code and bodies[0] == bodies[1]

    return compare
