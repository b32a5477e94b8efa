"""Tests of re-rating: drafts against the past, and every closed invoice derived again."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection

from billing.invoicing import close_period
from billing.metering import Meter
from billing.models import Account, Invoice, Price, UsageEvent
from billing.periods import EPOCH
from billing.pricing import Shape, Tier, dearest_unit, total
from billing.refunding import refund_event
from billing.rerating import rederive_invoices, rerate
from billing.shapes import render_shape
from billing.sql import uuid_value
from tests.billing.facts import usage_of, with_meter
from tests.billing.test_rating import pay
from tests.tampering import behind_our_back

pytestmark = pytest.mark.django_db(transaction=True)
OCTOBER, NOVEMBER = datetime(2025, 10, 1, tzinfo=UTC), datetime(2025, 11, 1, tzinfo=UTC)
TIERS = Shape(scheme="graduated", tiers=(Tier(up_to=100, unit_nanos=1000), Tier(up_to=None, unit_nanos=100)))
UNITS = [60, 30, 20, 90, 5]


def used(account: Account, shape: Shape) -> list[UsageEvent]:
    """An October of calls at a price of that shape, since ever."""
    price = Price.objects.create(
        sku="house/tiers@1",
        unit="token",
        unit_nanos=dearest_unit(shape),
        shape=render_shape(shape),
        meter="house/tiers",
        effective_from=EPOCH,
    )

    async def body(meter: Meter) -> None:
        for units in UNITS:
            await pay(meter, account, usage_of(account, price, units=units, occurred_at=OCTOBER))

    with_meter(body)
    return list(UsageEvent.objects.order_by("receipt__seq"))


def state() -> list[Any]:
    with connection.cursor() as cursor:
        tables = [name for name in connection.introspection.table_names() if name.startswith("billing_")]
        return [cursor.execute(f"SELECT * FROM {name}").fetchall() for name in sorted(tables)]


def test_a_draft_is_charged_against_the_past_and_nothing_is_written(account: Account) -> None:
    used(account, TIERS)
    before = state()
    draft = Shape(scheme="package", unit_nanos=7000, package_units=50)

    found = rerate({"house/tiers@1": draft}, since=OCTOBER, until=NOVEMBER)

    assert (found.total.was, found.total.would_be) == (total(TIERS, sum(UNITS)), total(draft, sum(UNITS)))
    assert found.by_account == {account.pk: found.total}
    assert found.by_sku == {"house/tiers@1": found.total}
    assert found.total.difference == found.total.would_be - found.total.was
    assert state() == before


def test_a_refunded_call_is_in_no_sum_and_keeps_its_place(account: Account) -> None:
    events = used(account, TIERS)
    refund_event(events[1].pk, reason="test", by="test")

    found = rerate({"house/tiers@1": TIERS}, since=OCTOBER, until=NOVEMBER)

    assert found.total.was == found.total.would_be == total(TIERS, sum(UNITS)) - events[1].charge_nanos


@pytest.mark.parametrize("extra", [{}, {"trial_units": 70}, {"free_units": 33, "minimum_nanos": 5000}, {"cached_unit_nanos": 3}])
def test_a_closed_invoice_derives_to_what_was_charged(account: Account, extra: dict[str, int]) -> None:
    used(account, Shape(scheme="graduated", tiers=TIERS.tiers, **extra))  # type: ignore[arg-type]  # Whole numbers, all of them.
    close_period(account, OCTOBER)

    assert rederive_invoices() == []


def test_a_charge_that_its_price_does_not_come_to_is_found(account: Account) -> None:
    events = used(account, TIERS)
    close_period(account, OCTOBER)
    behind_our_back(f"UPDATE billing_usageevent SET charge_nanos = charge_nanos + 1 WHERE id = '{uuid_value(events[2].pk)}'")

    (difference,) = rederive_invoices()

    assert difference.found == difference.facts + 1
    assert "call 3 of" in difference.of
    assert Invoice.objects.count() == 1
