"""The operator, signed in, on a site with one of everything."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from billing.ids import uuid7
from billing.ledger import grant_credit
from billing.models import (
    BankPayout,
    Budget,
    Dispute,
    GatewayProcess,
    Invoice,
    InvoiceLine,
    Lease,
    MeterFault,
    MeterFeed,
    MeterReport,
    OutboxRow,
    PaymentRefund,
    Payout,
    PayoutAccount,
    PayoutCheck,
    Price,
    StripeEvent,
    StripeEventWork,
    TopUp,
    UsageEvent,
    UsageRollup,
)
from billing.money import Nanos
from billing.periods import hour_of
from billing.plans import make_plan
from billing.posting import post_usage
from billing.refunding import refund_event
from billing.shares import set_share
from billing.subscriptions import subscribe
from marketplace.credentials import digest
from marketplace.models import ApiKey, ModelVersion, Organization, RequestLog, User


@pytest.fixture(autouse=True)
def _cold_cache() -> None:
    cache.clear()


@pytest.fixture
def desk(operator: User) -> Client:
    """The dashboard as the operator sees it."""
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture
def key(live_key: str) -> ApiKey:
    return ApiKey.objects.get(digest=digest(live_key))


@pytest.fixture
def event(key: ApiKey, sentiment: ModelVersion) -> UsageEvent:
    """A call of 11 tokens that `key` paid 2,200 nanos for out of $5, with all that the gateway writes."""
    account = key.organization.account
    grant_credit(account, Nanos(5 * 10**9), kind="operator", reference="test", by="test")
    budget = Budget.objects.get(account=account, subject="account")
    budget.spent_nanos, budget.leased_nanos = 2200, 100
    budget.save()
    now = datetime.now(UTC)
    process = GatewayProcess.objects.create(started_at=now, heartbeat_at=now)
    Lease.objects.create(budget=budget, process=process, amount_nanos=100)
    price = Price.objects.get(sku=sentiment.sku)
    shared: dict[str, Any] = {
        "account": account,
        "price": price,
        "sku": sentiment.sku,
        "unit": "token",
        "units": 11,
        "charge_nanos": 2200,
        "livemode": True,
        "source": str(key.pk),
    }
    event = UsageEvent.objects.create(
        id=uuid7(), **shared, budgets=str(budget.pk), process=process, seq=1, replayable=False, occurred_at=now
    )
    UsageRollup.objects.create(**shared, hour=hour_of(now), events=1)
    RequestLog.objects.create(
        id=event.pk,
        organization=key.organization,
        key=key,
        version=sentiment,
        livemode=True,
        route="predict",
        status=200,
        unit="token",
        units=11,
        charge_nanos=2200,
        total_us=2000,
        occurred_at=now,
        reply="what the customer got",
    )
    return event


@pytest.fixture
def everything(event: UsageEvent, organization: Organization) -> None:
    """A row in every table that the dashboard shows."""
    set_share("somebody/model", payee=organization.account, fee_basis_points=1500, by="test")
    post_usage(now=datetime.now(UTC) + timedelta(hours=2))
    refund_event(event.pk, reason="test", by="test")
    plan = make_plan(scope="*", code="team", name="Team", fee_nanos=0, unit="token", included_units=9, quota="hard", by="test")
    subscribe(organization.account, plan, by="test")
    invoice = Invoice.objects.create(
        number="202610-000000000001",
        account=organization.account,
        starts_at=datetime(2026, 10, 1, tzinfo=UTC),
        ends_at=datetime(2026, 11, 1, tzinfo=UTC),
        currency="usd",
        total_cents=0,
    )
    top_up = TopUp.objects.create(
        account=organization.account, amount_cents=500, currency="usd", source="checkout", status="paid", by="test"
    )
    PaymentRefund.objects.create(top_up=top_up, amount_cents=100, reason="test", by="test")
    Dispute.objects.create(dispute_id="dp_1", top_up=top_up, amount_cents=400, status="won")
    PayoutAccount.objects.create(account=organization.account, country="US", connected_id="acct_1")
    payout = Payout.objects.create(account=organization.account, amount_cents=100, currency="usd", connected_id="acct_1", by="test")
    payout.reversals.create(amount_cents=10, reason="test", by="test")
    BankPayout.objects.create(
        payout_id="po_1", account=organization.account, amount_cents=90, currency="usd", status="paid", arrives_at=datetime.now(UTC)
    )
    PayoutCheck.objects.create(day=datetime.now(UTC).date())
    OutboxRow.objects.create(account=organization.account, kind="refund.create", subject="1", due_at=datetime.now(UTC))
    webhook = StripeEvent.objects.create(
        event_id="evt_1", type="charge.refunded", object_id="ch_1", livemode=False, occurred_at=datetime.now(UTC), body="{}"
    )
    StripeEventWork.objects.create(event=webhook, due_at=datetime.now(UTC))
    feed = MeterFeed.objects.create(event_name="farebox_charge", quantity="charge", started_at=hour_of(event.occurred_at))
    report = MeterReport.objects.create(
        feed=feed,
        account=organization.account,
        hour=hour_of(event.occurred_at),
        period=datetime(2026, 10, 1, tzinfo=UTC),
        number=1,
        amount=2200,
        value=2,
        counted_at=hour_of(event.occurred_at),
    )
    MeterFault.objects.create(event=webhook, feed=feed, code="no_meter", count=1, report=report, message="There is none.")
    assert event.price is not None
    InvoiceLine.objects.create(
        invoice=invoice,
        price=event.price,
        sku=event.sku,
        unit="token",
        events=1,
        units=11,
        charge_nanos=2200,
        amount_cents=0,
        remainder_nanos=2200,
    )
