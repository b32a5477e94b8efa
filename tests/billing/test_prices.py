"""Tests of prices: set, never changed, looked up by their time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing.errors import PriceInvalid
from billing.models import Price
from billing.prices import price_at, price_history, set_price
from billing.pricing import Shape, Tier
from billing.shapes import parse_shape

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


GRADUATED = Shape(scheme="graduated", tiers=(Tier(up_to=1000, unit_nanos=200), Tier(up_to=None, unit_nanos=100)))


@pytest.mark.parametrize(
    "shape",
    [
        GRADUATED,
        Shape(scheme="volume", tiers=(Tier(up_to=5, unit_nanos=9, flat_nanos=3), Tier(up_to=None, unit_nanos=7)), trial_units=5),
        Shape(scheme="package", unit_nanos=25, package_units=5, free_units=10, minimum_nanos=100),
        Shape(unit_nanos=200, cached_unit_nanos=20),
    ],
)
def test_a_price_of_any_shape_is_kept_as_it_was_set(shape: Shape) -> None:
    price = set_price(sku="house/model@1", unit="token", shape=shape, meter="house/model", currency="eur")

    ((_, terms),) = price_history("house/model@1", currency="eur")
    assert (terms.shape, terms.counted_as, terms.currency, terms.price_id) == (shape, "house/model", "eur", price.pk)
    assert price_history("house/model@1") == []  # Each currency has its own.


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scheme": "stairs"}, "none of"),
        ({"scheme": "graduated"}, "1 to 20 tiers"),
        ({"scheme": "graduated", "tiers": [{"up_to": 5}]}, "without end"),
        ({"scheme": "volume", "tiers": [{"up_to": 5}, {"up_to": 5}, {"up_to": None}]}, "above the one before"),
        ({"scheme": "volume", "tiers": [{"up_to": "5"}, {"up_to": None}]}, "whole number"),
        ({"scheme": "volume", "tiers": [{"upto": 5}]}, "list of objects"),
        ({"scheme": "graduated", "unit_nanos": 1, "tiers": [{"up_to": None}]}, "must be 0"),
        ({"scheme": "flat", "tiers": [{"up_to": None}]}, "no tiers"),
        ({"package_units": 5}, "Only a package"),
        ({"scheme": "package", "package_units": 0}, "from 1 to"),
        ({"free_units": -1}, "from 0 to"),
        ({"unit_nanos": 1.5}, "out of range"),
        ({"minimum_nanos": True}, "out of range"),
        ({"surprise": 1}, "no field 'surprise'"),
    ],
)
def test_a_shape_that_makes_no_price_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(PriceInvalid, match=said):
        set_price(sku="house/model@1", unit="token", shape=parse_shape(fields))

    assert not Price.objects.exists()


def test_a_dearer_price_needs_notice_and_a_cheaper_one_does_not() -> None:
    set_price(sku="house/model@1", unit="token", unit_nanos=200)
    week = timedelta(days=7)

    for dearer in (Shape(unit_nanos=201), Shape(unit_nanos=200, minimum_nanos=10**9)):
        with pytest.raises(PriceInvalid, match="needs notice"):
            set_price(sku="house/model@1", unit="token", shape=dearer, effective_from=TOMORROW, notice=week)
    assert Price.objects.count() == 1

    set_price(sku="house/model@1", unit="token", shape=GRADUATED, effective_from=TOMORROW, notice=week)
    later = set_price(sku="house/model@1", unit="token", unit_nanos=300, effective_from=timezone.now() + 2 * week, notice=week)
    assert price_at("house/model@1", later.effective_from) == later


def test_a_currency_we_do_not_bill_in_is_refused() -> None:
    with pytest.raises(PriceInvalid, match="'gbp' is none of usd, eur, cny"):
        set_price(sku="house/model@1", unit="token", unit_nanos=1, currency="gbp")

    assert not Price.objects.exists()
