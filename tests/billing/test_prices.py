"""Tests of prices: set, never changed, looked up by their time."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from billing.errors import PriceInvalid
from billing.models import Price
from billing.prices import price_at, price_history, set_price

pytestmark = pytest.mark.django_db
TOMORROW = timezone.now() + timedelta(days=1)


def test_a_price_holds_from_its_moment_until_the_next() -> None:
    now = timezone.now()
    first = set_price(sku="house/model@1", unit="token", unit_nanos=200)
    second = set_price(sku="house/model@1", unit="token", unit_nanos=100, effective_from=TOMORROW)

    assert price_at("house/model@1", now - timedelta(days=1)) is None
    assert price_at("house/model@1", TOMORROW - timedelta(microseconds=1)) == first
    assert price_at("house/model@1", TOMORROW) == second


def test_price_history_is_ascending_and_complete() -> None:
    set_price(sku="house/model@1", unit="token", unit_nanos=100, effective_from=TOMORROW)
    set_price(sku="house/model@1", unit="token", unit_nanos=200)
    set_price(sku="house/model@2", unit="call", unit_nanos=5)

    history = price_history("house/model@1")

    assert [terms.unit_nanos for _, terms in history] == [200, 100]
    assert history[1][0] == TOMORROW
    assert (history[0][1].unit, history[0][1].sku, history[0][1].currency) == ("token", "house/model@1", "usd")


@pytest.mark.parametrize(
    ("unit", "unit_nanos", "effective_from", "said"),
    [
        ("hour", 1, None, "none of"),
        ("token", -1, None, "out of range"),
        ("token", 2**63, None, "out of range"),
        ("token", 1, datetime(2020, 1, 1, tzinfo=UTC), "past"),
        ("row", 1, None, "not sold by"),
        ("token", 1, TOMORROW, "at that moment"),
    ],
)
def test_a_price_that_cannot_be_is_refused(unit: str, unit_nanos: int, effective_from: datetime | None, said: str) -> None:
    set_price(sku="house/model@1", unit="token", unit_nanos=100, effective_from=TOMORROW)

    with pytest.raises(PriceInvalid, match=said) as refused:
        set_price(sku="house/model@1", unit=unit, unit_nanos=unit_nanos, effective_from=effective_from)

    assert refused.value.code == "price_invalid"
    assert Price.objects.count() == 1


def test_a_price_of_nothing_is_a_price() -> None:
    assert set_price(sku="house/free@1", unit="call", unit_nanos=0).unit_nanos == 0
