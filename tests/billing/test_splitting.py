"""Tests of the split of charges: exact, bounded, and the same in however many parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.splitting import split_charge, split_more

CHARGES = st.integers(0, 2**62)
FEES = st.integers(0, 10_000)


@pytest.mark.parametrize(
    ("charge", "basis_points", "fee", "share"),
    [(3_400, 1_500, 510, 2_890), (1, 1_500, 0, 1), (19, 1_500, 2, 17), (7, 10_000, 7, 0), (7, 0, 0, 7), (-19, 1_500, -2, -17)],
)
def test_a_charge_is_split_as_by_hand(charge: int, basis_points: int, fee: int, share: int) -> None:
    assert split_charge(charge, fee_basis_points=basis_points) == (fee, share)


@given(charge=CHARGES, basis_points=FEES)
def test_nothing_is_lost_and_the_fee_is_never_more_than_stated_nor_a_nano_less(charge: int, basis_points: int) -> None:
    fee, share = split_charge(charge, fee_basis_points=basis_points)

    assert fee + share == charge
    assert 0 <= fee <= charge
    assert 0 <= charge * basis_points - fee * 10_000 < 10_000


@given(parts=st.lists(st.integers(-(2**40), 2**40), max_size=20), basis_points=FEES)
def test_in_parts_or_whole_the_fee_is_the_same(parts: list[int], basis_points: int) -> None:
    posted = fee_posted = shares = 0
    for part in parts:
        fee, share = split_more(part, posted=posted, fee_posted=fee_posted, fee_basis_points=basis_points)
        assert fee + share == part
        posted, fee_posted, shares = posted + part, fee_posted + fee, shares + share

    assert (fee_posted, shares) == split_charge(posted, fee_basis_points=basis_points)


@given(charges=st.lists(CHARGES, max_size=10), basis_points=FEES)
def test_what_is_given_back_whole_leaves_nothing_on_either_side(charges: list[int], basis_points: int) -> None:
    posted = fee_posted = shares = 0
    for part in [*charges, *(-charge for charge in charges)]:
        fee, share = split_more(part, posted=posted, fee_posted=fee_posted, fee_basis_points=basis_points)
        posted, fee_posted, shares = posted + part, fee_posted + fee, shares + share

    assert (posted, fee_posted, shares) == (0, 0, 0)
