"""Tests of pricing: sums that no split changes, Stripe's own examples, and no nano lost in a million calls."""

import random
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import Shape, Terms, Tier, charge, dearest_unit, highest_charge, is_never_dearer, rebate, total, trial_part

units = st.integers(min_value=0, max_value=10**9)
few = st.integers(min_value=0, max_value=60)
terms = st.builds(
    Terms,
    price_id=st.just(UUID(int=1)),
    sku=st.just("house/model@1"),
    unit=st.just("token"),
    unit_nanos=st.integers(min_value=0, max_value=10**9),
    currency=st.just("usd"),
)
amounts = st.integers(min_value=0, max_value=50)


def of(shape: Shape) -> Terms:
    """A price of that shape."""
    return Terms(price_id=UUID(int=1), sku="house/model@1", unit="call", unit_nanos=dearest_unit(shape), currency="usd", shape=shape)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Any shape, small enough that every place in a month can be tried."""
    scheme = draw(st.sampled_from(["flat", "graduated", "volume", "package"]))
    ends = sorted(draw(st.sets(st.integers(min_value=1, max_value=40), max_size=3)))
    tiers = [Tier(up_to=end, unit_nanos=draw(amounts), flat_nanos=draw(amounts)) for end in [*ends, None]]
    return Shape(
        scheme=scheme,
        unit_nanos=draw(amounts) if scheme in {"flat", "package"} else 0,
        package_units=draw(st.integers(min_value=1, max_value=9)) if scheme == "package" else 1,
        tiers=tuple(tiers) if scheme in {"graduated", "volume"} else (),
        free_units=draw(st.integers(min_value=0, max_value=8)),
        minimum_nanos=draw(st.integers(min_value=0, max_value=400)),
    )


@given(terms, units, units)
def test_a_split_anywhere_charges_the_same(price: Terms, first: int, second: int) -> None:
    assert charge(price, first) + charge(price, second, already_used=first) == charge(price, first + second)


@given(shapes(), st.lists(few, max_size=12))
def test_a_month_split_into_any_calls_comes_to_the_same(shape: Shape, calls: list[int]) -> None:
    used, charged = 0, 0
    for count in calls:
        cost = charge(of(shape), count, already_used=used)
        assert cost >= 0
        used, charged = used + count, charged + cost

    assert charged == total(shape, used)


@given(shapes(), st.integers(min_value=1, max_value=30), few)
def test_the_highest_charge_covers_every_place_in_the_month_and_is_reached(shape: Shape, count: int, known: int) -> None:
    """Neither too low, or a call would be charged above its hold; nor too high, or calls that fit are refused."""
    # Past the last corner of any such shape: 400 packages of 9 units reach the minimum, the dearest tiers are caught up with at 2,050.
    costs = [charge(of(shape), count, already_used=used) for used in range(known, known + 4000)]

    assert highest_charge(of(shape), count, at_least_used=known) == max(costs)


# Stripe Billing, "Tiered pricing": the first five at $5, the next five at $4, all above at $3 (here in cents).
RATES = (Tier(up_to=5, unit_nanos=500), Tier(up_to=10, unit_nanos=400), Tier(up_to=None, unit_nanos=300))
# ... and with flat fees: $10, $20, $30, $40, $50.
FEES = (
    Tier(up_to=5, unit_nanos=500, flat_nanos=1000),
    Tier(up_to=10, unit_nanos=400, flat_nanos=2000),
    Tier(up_to=15, unit_nanos=300, flat_nanos=3000),
    Tier(up_to=20, unit_nanos=200, flat_nanos=4000),
    Tier(up_to=None, unit_nanos=100, flat_nanos=5000),
)


@pytest.mark.parametrize(
    ("tiers", "count", "graduated", "volume"),
    [
        (RATES, 1, 500, 500),
        (RATES, 5, 2500, 2500),
        (RATES, 6, 2900, 2400),
        (RATES, 20, 7500, 6000),
        (RATES, 25, 9000, 7500),
        (FEES, 1, 1500, 1500),
        (FEES, 5, 3500, 3500),
        (FEES, 6, 5900, 4400),
        (FEES, 20, 17000, 8000),
        (FEES, 25, 22500, 7500),
    ],
)
def test_graduated_and_volume_tiers_come_to_what_stripe_publishes(tiers: tuple[Tier, ...], count: int, graduated: int, volume: int) -> None:
    assert total(Shape(scheme="graduated", tiers=tiers), count) == graduated
    by_volume = Shape(scheme="volume", tiers=tiers)
    charged = total(by_volume, count)
    assert charged - rebate(by_volume, units=count, charged_nanos=charged, month_units=count) == volume


def test_a_package_is_charged_when_it_is_begun_and_carried_to_the_next_call() -> None:
    """Stripe, "Package pricing": $25 for each 5 users, 8 users are two packages."""
    price = of(Shape(scheme="package", unit_nanos=25, package_units=5))

    costs = [charge(price, 1, already_used=used) for used in range(8)]

    assert costs == [25, 0, 0, 0, 0, 25, 0, 0]
    assert charge(price, 8) == 50


def test_a_monthly_fee_with_included_units_is_a_tier() -> None:
    price = of(Shape(scheme="graduated", tiers=(Tier(up_to=1000, flat_nanos=49), Tier(up_to=None, unit_nanos=2))))

    assert [charge(price, 1), charge(price, 999, already_used=1), charge(price, 10, already_used=1000)] == [49, 0, 20]
    assert highest_charge(price, 10) == 49  # Nothing is known of the month: it may be the first.
    assert highest_charge(price, 10, at_least_used=1) == 20  # The fee is paid, and is not held again.


def test_a_minimum_is_charged_first_and_used_up_after() -> None:
    price = of(Shape(unit_nanos=10, minimum_nanos=100))

    assert [charge(price, 3), charge(price, 7, already_used=3), charge(price, 2, already_used=10)] == [100, 0, 20]


def test_a_free_tier_costs_nothing_until_it_is_used_up() -> None:
    price = of(Shape(unit_nanos=10, free_units=100))

    assert [charge(price, 100), charge(price, 5, already_used=98), charge(price, 1, already_used=100)] == [0, 30, 10]


def test_a_cached_answer_has_its_own_price_and_moves_no_tier() -> None:
    price = of(Shape(scheme="graduated", tiers=RATES, cached_unit_nanos=7))

    assert charge(price, 3, already_used=4, is_cached=True) == 21
    assert charge(of(Shape(unit_nanos=10)), 3, is_cached=True) == 30


def test_a_million_random_amounts_drift_by_nothing() -> None:
    chance = random.Random(20261122)
    price = of(
        Shape(
            scheme="graduated",
            tiers=(Tier(up_to=10**6, unit_nanos=203), Tier(up_to=10**8, unit_nanos=151), Tier(up_to=None, unit_nanos=97)),
        )
    )
    used = charged = 0
    for _ in range(10**6):
        count = chance.randrange(1, 400)
        charged += charge(price, count, already_used=used)
        used += count

    assert charged == 203 * 10**6 + 151 * (10**8 - 10**6) + 97 * (used - 10**8)


def test_a_million_tokens_at_20_cents_per_million_cost_20_cents() -> None:
    price = Terms(price_id=UUID(int=1), sku="house/model@1", unit="token", unit_nanos=200, currency="usd")

    assert charge(price, 1_000_000) == 200_000_000


@given(shapes(), shapes())
def test_a_price_said_to_be_never_dearer_is_dearer_nowhere(new: Shape, old: Shape) -> None:
    if is_never_dearer(new, old):
        assert all(total(new, count) <= total(old, count) for count in range(400))


@given(shapes())
def test_a_price_is_never_dearer_than_itself(shape: Shape) -> None:
    assert is_never_dearer(shape, shape)


def test_terms_without_a_shape_are_plain_and_counted_by_their_sku() -> None:
    plain = Terms(price_id=UUID(int=1), sku="house/model@1", unit="token", unit_nanos=200, currency="usd")

    assert plain.is_plain
    assert plain.counted_as == "house/model@1"
    assert replace(plain, meter="house/model").counted_as == "house/model"
    assert not of(Shape(unit_nanos=200, free_units=1)).is_plain


@pytest.mark.parametrize(("units", "ever_used", "part"), [(4, 0, 4), (12, 0, 10), (12, 7, 3), (1, 9, 1), (1, 10, 0), (5, 30, 0)])
def test_a_trial_of_ten_units_ends_with_the_tenth(units: int, ever_used: int, part: int) -> None:
    assert trial_part(Shape(unit_nanos=200, trial_units=10), units, ever_used=ever_used) == part


@pytest.mark.parametrize(
    ("new", "old", "never"), [(50, 50, True), (51, 50, False), (None, 50, False), (None, 200, True), (200, None, True)]
)
def test_a_price_whose_cached_units_cost_more_is_dearer(new: int | None, old: int | None, *, never: bool) -> None:
    assert is_never_dearer(Shape(unit_nanos=200, cached_unit_nanos=new), Shape(unit_nanos=200, cached_unit_nanos=old)) == never


def test_a_shorter_trial_is_dearer() -> None:
    assert not is_never_dearer(Shape(unit_nanos=200, trial_units=9), Shape(unit_nanos=200, trial_units=10))
    assert is_never_dearer(Shape(unit_nanos=200, trial_units=10), Shape(unit_nanos=200, trial_units=10))


def test_a_price_that_grows_faster_in_the_end_is_dearer_however_far_that_is() -> None:
    # At the corners and some way beyond them it costs less: 11 a unit from the 11th on overtakes 10 a unit at the 111th.
    late = Shape(scheme="graduated", tiers=(Tier(up_to=10), Tier(up_to=None, unit_nanos=11)))

    assert total(late, 100) < 100 * 10
    assert not is_never_dearer(late, Shape(unit_nanos=10))
