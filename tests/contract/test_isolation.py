"""No tenant sees another's: every REST address, method and kind of id, from the URL table itself.

A route that the table below lacks fails the first test, so that a new address cannot be
forgotten here. A foreign id must answer as an absent one, byte for byte but for the request id.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.forms.models import model_to_dict
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from billing.ids import public_id, uuid7
from billing.ledger import grant_credit
from billing.models import (
    Budget,
    Card,
    Customer,
    GatewayProcess,
    Invoice,
    Payout,
    PayoutAccount,
    Plan,
    Price,
    Receipt,
    ReceiptHead,
    TopUp,
    UsageEvent,
)
from billing.money import Nanos
from billing.plans import make_plan
from billing.subscriptions import subscribe
from inference.gate.report import Report
from marketplace.keys import KeySettings, issue_key, revoke_key
from marketplace.models import ApiKey, Batch, CatalogueModel, ModelVersion, Organization, Prediction, RequestLog, WebhookDelivery
from marketplace.webhooks.endpoints import register_endpoint, send_test
from tests.contract.routes import ROUTES, Route

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
# What the starter's artifact hashes to: all models here are served from it.
STARTER = hashlib.sha256((Path(__file__).parents[2] / "inference/starter/sentiment/model.onnx").read_bytes()).hexdigest()
CASES = [(name, method) for name, route in ROUTES.items() for method in route.methods]
KEYED = [(name, method) for name, method in CASES if not ROUTES[name].is_open]
NAMED = [(name, method) for name, method in KEYED if ROUTES[name].names]


def rest_patterns() -> Iterator[URLPattern]:
    """Yield every address below /v1/ of the site's real URL table."""
    for entry in get_resolver().url_patterns:
        if isinstance(entry, URLResolver) and str(entry.pattern) == "v1/":
            for pattern in entry.url_patterns:
                assert isinstance(pattern, URLPattern)
                yield pattern


def test_every_address_is_in_the_matrix() -> None:
    assert {pattern.name for pattern in rest_patterns()} == ROUTES.keys()


def test_every_method_is_in_the_matrix() -> None:
    for pattern in rest_patterns():
        assert pattern.name is not None
        view = pattern.callback.cls  # type: ignore[attr-defined]  # Each is an APIView.
        handled = {method.upper() for method in ("get", "post", "put", "patch", "delete") if hasattr(view, method)}
        if handled:  # Those that refuse whatever comes have no handler.
            assert handled == ROUTES[pattern.name].methods.keys(), pattern.name


@dataclass
class Tenant:
    """An organization with one of everything, and a key that acts for it."""

    organization: Organization
    secret: str
    test_secret: str
    ids: dict[str, str]

    def send(self, route: Route, method: str, ids: Mapping[str, str], *, secret: str | None = None) -> Any:
        """Send a request with the tenant's key, or another."""
        headers = {"authorization": f"Bearer {secret or self.secret}"}
        return send(route, method, ids, headers)


def send(route: Route, method: str, ids: Mapping[str, str], headers: Mapping[str, str]) -> Any:
    """Send a request."""
    sent = route.methods[method]
    body, kind = (sent, "multipart/form-data; boundary=b") if isinstance(sent, bytes) else (json.dumps(sent or {}), "application/json")
    path = (route.path + route.queries.get(method, "")).format(**ids)
    return Client(raise_request_exception=False).generic(method, path, body, kind, headers=dict(headers))


def settle_in(organization: Organization) -> Tenant:
    """Give an organization one of everything that has an id."""
    grant_credit(organization.account, Nanos(10**9), kind="operator", reference=f"test:{organization.slug}", by="test")
    _, secret = issue_key(organization=organization, name="acting", settings=KeySettings(), by="test")
    _, test_secret = issue_key(organization=organization, name="testing", settings=KeySettings(livemode=False), by="test")
    key, _ = issue_key(organization=organization, name=f"key of {organization.slug}", settings=KeySettings(), by="test")
    model = CatalogueModel.objects.create(owner=organization, name="private", title=f"title of {organization.slug}", task="t")
    version = ModelVersion.objects.create(model=model, number=1, state="live", folder="sentiment", digest=STARTER, size_bytes=1)
    ModelVersion.objects.create(
        model=model, number=2, state="ready", report=Report().as_json(), folder="sentiment", digest="1" * 64, size_bytes=1
    )
    price = Price.objects.create(sku=version.sku, unit="token", unit_nanos=1, effective_from=OCTOBER)
    call = RequestLog.objects.create(
        id=uuid7(), organization=organization, key=key, version=version, livemode=True, route="predict", status=200, occurred_at=OCTOBER
    )
    shared = {"organization": organization, "key": key, "version": version, "livemode": True, "created_at": OCTOBER}
    prediction = Prediction.objects.create(**shared, input=b"{}", stored_bytes=1)
    batch = Batch.objects.create(**shared, status="queued", rows=1, input_bytes=1)
    Prediction.objects.create(**shared, batch=batch, line=1, input=b"{}", stored_bytes=1)
    endpoint, _ = register_endpoint(organization, url="https://hooks.example/", events=["*"], description="", by="test")
    delivery = send_test(endpoint).deliveries.get()
    receive(organization, price, call)
    plan, other_plan = (
        make_plan(scope=model.path, code=code, name=code, fee_nanos=1000, unit="token", included_units=9, quota="hard", by="test")
        for code in ("small", "large")
    )
    subscription = subscribe(organization.account, plan, by="test")
    number = f"202610-{organization.pk.hex[-12:]}"
    Invoice.objects.create(
        number=number,
        account=organization.account,
        starts_at=OCTOBER,
        ends_at=datetime(2026, 11, 1, tzinfo=UTC),
        currency="usd",
        total_cents=1,
    )
    top_up = TopUp.objects.create(account=organization.account, amount_cents=500, currency="usd", source="checkout", by="test")
    customer = Customer.objects.create(account=organization.account, customer_id=f"cus_{organization.slug}")
    card = Card.objects.create(customer=customer, card_id=f"pm_{organization.slug}", exp_month=1, exp_year=2030, attached_at=OCTOBER)
    PayoutAccount.objects.create(account=organization.account, connected_id=f"acct_{organization.slug}")
    sent = Payout.objects.create(account=organization.account, amount_cents=100, currency="usd", connected_id="acct_x", by="test")
    ids = {
        "key": public_id("key", key.pk),
        "model": model.path,
        "request": public_id("req", call.pk),
        "invoice": number,
        "prediction": public_id("prd", prediction.pk),
        "batch": public_id("bat", batch.pk),
        "webhook": public_id("whe", endpoint.pk),
        "delivery": public_id("whd", delivery.pk),
        "top_up": public_id("top", top_up.pk),
        "card": card.card_id,
        "payout": public_id("pay", sent.pk),
        "plan": public_id("plan", plan.pk),
        "other_plan": public_id("plan", other_plan.pk),
        "subscription": public_id("sub", subscription.pk),
    }
    return Tenant(organization, secret, test_secret, ids)


def receive(organization: Organization, price: Price, call: RequestLog) -> None:
    """Give a call its event and its receipt."""
    process = GatewayProcess.objects.create(started_at=OCTOBER, heartbeat_at=OCTOBER)
    event = UsageEvent.objects.create(
        id=call.pk, account=organization.account, price=price, sku=price.sku, unit="token", units=1, charge_nanos=1, livemode=True,
        source=str(call.key_id), process=process, seq=1, replayable=False, occurred_at=OCTOBER,
    )  # fmt: skip
    hashes = {"hash": bytes(32), "previous": bytes(32), "input_hash": bytes(32), "path": b"", "signature": bytes(64)}
    ReceiptHead.objects.create(account=organization.account, seq=1, hash=bytes(32))
    Receipt.objects.create(event=event, account=organization.account, seq=1, position=0, size=1, key_id="k", **hashes)


@pytest.fixture(autouse=True)
def _starter_as_store(settings: Any, _plain_site: None, tmp_path: Path) -> None:
    """Serve the starter's files where they lie: publishing them 170 times takes half a minute."""
    settings.ARTIFACTS_DIR = tmp_path / "store"
    settings.ARTIFACTS_DIR.mkdir()
    (settings.ARTIFACTS_DIR / "sentiment").symlink_to(settings.STARTER_DIR / "sentiment")


@pytest.fixture
def ours(organization: Organization) -> Tenant:
    return settle_in(organization)


@pytest.fixture
def theirs(other_organization: Organization) -> Tenant:
    return settle_in(other_organization)


@pytest.fixture
def absent(organization: Organization) -> dict[str, str]:
    """Ids of nothing, of the same form."""
    return {
        "key": public_id("key", uuid7()),
        "model": "other/absent1",
        "request": public_id("req", uuid7()),
        "invoice": f"202610-{uuid7().hex[-12:]}",
        "prediction": public_id("prd", uuid7()),
        "batch": public_id("bat", uuid7()),
        "webhook": public_id("whe", uuid7()),
        "delivery": public_id("whd", uuid7()),
        "top_up": public_id("top", uuid7()),
        "card": "pm_nobody",
        "payout": public_id("pay", uuid7()),
        "plan": public_id("plan", uuid7()),
        "other_plan": public_id("plan", uuid7()),
        "subscription": public_id("sub", uuid7()),
    }


def state_of(organization: Organization) -> list[Any]:
    """Return all that could be changed of a tenant."""
    return [
        model_to_dict(organization),
        *organization.keys.order_by("pk").values(),
        *organization.models.order_by("pk").values(),
        *ModelVersion.objects.filter(model__owner=organization).order_by("pk").values(),
        *organization.requests.order_by("pk").values(),
        *organization.predictions.order_by("pk").values(),
        *organization.batches.order_by("pk").values(),
        *organization.webhook_endpoints.order_by("pk").values(),
        *WebhookDelivery.objects.filter(endpoint__organization=organization).order_by("pk").values(),
        *organization.caps.order_by("pk").values(),
        *Budget.objects.filter(account=organization.account).order_by("pk").values(),
        *organization.account.invoices.order_by("pk").values(),
        *organization.account.top_ups.order_by("pk").values(),
        *Card.objects.filter(customer__account=organization.account).values(),
        *organization.account.payouts.order_by("pk").values(),
        *organization.account.subscriptions.order_by("pk").values(),
        *Plan.objects.filter(scope__startswith=f"{organization.slug}/").order_by("pk").values(),
        *PayoutAccount.objects.filter(account=organization.account).values(),
        organization.audit_events.count(),
    ]


def without_id(reply: Any) -> tuple[int, bytes, dict[str, str]]:
    """Return status, body and headers of a reply without its request id, and what is left of the rate limit."""
    headers = {name: value for name, value in reply.headers.items() if name not in {"Request-Id", "RateLimit"}}
    return reply.status_code, reply.content.replace(reply.headers["Request-Id"].encode(), b""), headers


@pytest.mark.parametrize(("name", "method"), CASES)
def test_the_callers_own_is_answered(ours: Tenant, name: str, method: str) -> None:
    route = ROUTES[name]

    reply = ours.send(route, method, ours.ids)

    expected = route.own_statuses.get(method, route.own_status)
    assert reply.status_code in ({200, 201, 204} if expected == 200 else {expected}), reply.content


@pytest.mark.parametrize(("name", "method"), NAMED)
def test_a_foreign_id_is_answered_as_an_absent_one(ours: Tenant, theirs: Tenant, absent: dict[str, str], name: str, method: str) -> None:
    before = state_of(theirs.organization)

    foreign = ours.send(ROUTES[name], method, theirs.ids)
    nothing = ours.send(ROUTES[name], method, absent)

    assert foreign.status_code == 404
    assert without_id(foreign) == without_id(nothing)
    assert state_of(theirs.organization) == before


@pytest.mark.parametrize(("name", "method"), KEYED)
def test_no_answer_tells_of_another_tenant(ours: Tenant, theirs: Tenant, name: str, method: str) -> None:
    before = state_of(theirs.organization)

    body = b"".join(ours.send(ROUTES[name], method, ours.ids)).decode()

    for told in (*theirs.ids.values(), "of other", public_id("org", theirs.organization.pk), str(theirs.organization.pk)):
        assert told not in body
    assert state_of(theirs.organization) == before


@pytest.mark.parametrize(("name", "method"), KEYED)
def test_nothing_is_answered_without_a_key(ours: Tenant, name: str, method: str) -> None:
    before = state_of(ours.organization)

    reply = send(ROUTES[name], method, ours.ids, {})

    assert (reply.status_code, reply.json()["code"]) == (401, "key_missing")
    assert state_of(ours.organization) == before


@pytest.mark.parametrize(("name", "method"), KEYED)
def test_nothing_is_answered_to_a_revoked_key(ours: Tenant, name: str, method: str) -> None:
    revoke_key(ours.organization.keys.get(name="acting"), by="test")
    before = state_of(ours.organization)

    reply = ours.send(ROUTES[name], method, ours.ids)

    assert (reply.status_code, reply.json()["code"]) == (401, "key_revoked")
    assert state_of(ours.organization) == before


@pytest.mark.parametrize(("name", "method"), KEYED)
def test_a_test_key_neither_sees_nor_changes_what_is_live(ours: Tenant, absent: dict[str, str], name: str, method: str) -> None:
    route = ROUTES[name]
    live = ours.organization.keys.filter(livemode=True)
    before = list(live.order_by("pk").values())

    reply = ours.send(route, method, ours.ids, secret=ours.test_secret)

    assert list(live.order_by("pk").values()) == before
    if route.is_live_only:
        assert (reply.status_code, reply.json()["code"]) == (403, "scope_missing")
    elif method != "GET" and route.test_status != 200:
        assert reply.status_code == route.test_status
    elif {"key", "request", "prediction", "batch"} & set(route.names):
        assert without_id(reply) == without_id(ours.send(route, method, absent, secret=ours.test_secret))
    else:
        assert reply.status_code in {200, 201}
        for told in (ours.ids["key"], ours.ids["request"], ours.ids["invoice"], ours.ids["prediction"], ours.ids["batch"]):
            assert told not in reply.content.decode()


def test_a_patch_with_every_column_of_every_table_changes_nothing(ours: Tenant) -> None:
    before = state_of(ours.organization)
    columns = {entry.attname for table in (ApiKey, Organization, RequestLog, Budget) for entry in table._meta.concrete_fields}

    for column in sorted(columns - {"name"}):
        for value in ("x", 1, None, True):
            body = Route("/v1/keys/{key}", {"PATCH": {column: value}}, ("key",))
            assert ours.send(body, "PATCH", ours.ids).status_code == 400

    # The acting key's last use is noted; nothing else is.
    assert [row if not isinstance(row, dict) else {**row, "last_used_at": None} for row in state_of(ours.organization)] == [
        row if not isinstance(row, dict) else {**row, "last_used_at": None} for row in before
    ]
