"""Fixtures for billing: an account with credit, a price, and a database that is empty again after each test."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from billing import credit_lines
from billing.ids import uuid7
from billing.ledger import grant_credit, open_account
from billing.models import Account, MeterFeed, Price
from billing.money import Nanos
from billing.periods import EPOCH, month_of
from tests.billing.facts import CREDIT_NANOS
from tests.billing.payees import CENT, fund_platform, onboard


@pytest.fixture(autouse=True)
def _emptied(request: pytest.FixtureRequest) -> Iterator[None]:
    """Empty billing's tables after a test that commits: the append-only triggers would stop Django's flush."""
    marker = request.node.get_closest_marker("django_db")
    if marker is None or not marker.kwargs.get("transaction"):
        yield
        return
    request.getfixturevalue("transactional_db")  # So that its flush comes after ours.
    yield
    if connection.vendor != "sqlite":
        return  # TRUNCATE fires no row triggers.
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = cursor.fetchall()
        for name, _ in triggers:
            cursor.execute(f"DROP TRIGGER {name}")
        for table in connection.introspection.django_table_names(only_existing=True):
            cursor.execute(f"DELETE FROM {table}")  # All, for others refer to billing's; the flush empties them in any case.
        for _, sql in triggers:
            cursor.execute(sql)


@pytest.fixture
def account() -> Account:
    """An account with 10 dollars of credit."""
    opened = open_account(name="acme")
    grant_credit(opened, Nanos(CREDIT_NANOS), kind="operator", reference=f"test:{opened.pk}", by="test")
    return opened


@pytest.fixture
def price() -> Price:
    """200 nanos per token of `house/model@1`, since ever."""
    return Price.objects.create(id=uuid7(), sku="house/model@1", unit="token", unit_nanos=200, effective_from=EPOCH)


@pytest.fixture
def payee(till: Any) -> Account:
    """A provider that may be paid, with nothing earned, and 500 dollars at Stripe."""
    opened = open_account(name="models & co")
    onboard(till, opened)
    fund_platform(till)
    return opened


@pytest.fixture
def feed(till: Any, settings: Any) -> MeterFeed:
    """A meter of charges, fed since 40 days ago."""
    settings.STRIPE_METERS = {"charge": "farebox_charge"}
    return MeterFeed.objects.create(
        event_name="farebox_charge", quantity="charge", started_at=month_of(timezone.now() - timedelta(days=40))[0]
    )


@pytest.fixture
def dear() -> Price:
    """One dollar a call."""
    return Price.objects.create(sku="house/dear@1", unit="call", unit_nanos=100 * CENT, effective_from=EPOCH)


@pytest.fixture
def postpaid(till: Any) -> Account:
    """An account without credit that may owe 1,000 dollars."""
    opened = open_account(name="acme")
    credit_lines.set_credit_line(opened, 100_000 * CENT)
    return Account.objects.get(pk=opened.pk)
