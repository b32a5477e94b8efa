"""Tests of pricing."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import Terms, charge, highest_charge

units = st.integers(min_value=0, max_value=10**9)
terms = st.builds(
    Terms,
    price_id=st.just(UUID(int=1)),
    sku=st.just("house/model@1"),
    unit=st.just("token"),
    unit_nanos=st.integers(min_value=0, max_value=10**9),
    currency=st.just("usd"),
)


@given(terms, units, units)
def test_a_split_anywhere_charges_the_same(price: Terms, first: int, second: int) -> None:
    assert charge(price, first) + charge(price, second, already_used=first) == charge(price, first + second)


@given(terms, units, units)
def test_the_highest_charge_covers_whatever_was_used_before(price: Terms, count: int, before: int) -> None:
    assert charge(price, count, already_used=before) <= highest_charge(price, count)


def test_a_million_tokens_at_20_cents_per_million_cost_20_cents() -> None:
    price = Terms(price_id=UUID(int=1), sku="house/model@1", unit="token", unit_nanos=200, currency="usd")

    assert charge(price, 1_000_000) == 200_000_000
