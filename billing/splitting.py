"""How a charge is split between the site and the provider. Pure."""

from typing import Final, NamedTuple

WHOLE: Final = 10_000  # Basis points.


class Split(NamedTuple):
    """A charge in two parts, in nanos: `charge == fee + share`."""

    fee: int
    share: int


def split_charge(charge_nanos: int, *, fee_basis_points: int) -> Split:
    """Split a charge: the fee is rounded down to a nano, so the site never takes more than its basis points; the rest is the share.

    A charge below zero (an hour whose refunds outweigh what was posted of it) is split as its opposite is, so that
    what was taken is given back.

    Args:
        charge_nanos: Of all that is split at once: an hour's calls, less refunds.
        fee_basis_points: From 0, all is the provider's, to 10,000, all is the site's.
    """
    fee = abs(charge_nanos) * fee_basis_points // WHOLE
    fee = fee if charge_nanos >= 0 else -fee
    return Split(fee, charge_nanos - fee)


def split_more(charge_nanos: int, *, posted: int, fee_posted: int, fee_basis_points: int) -> Split:
    """Split what is added to (or, below zero, taken from) a charge that was split before.

    The total is split anew and the difference taken: in however many parts a charge comes, its parts' fees sum up to
    that of the whole, and what is refunded whole leaves nothing on either side.

    Args:
        charge_nanos: What is added.
        posted: The charge so far.
        fee_posted: Its fee.
        fee_basis_points: The same as before.
    """
    fee = split_charge(posted + charge_nanos, fee_basis_points=fee_basis_points).fee - fee_posted
    return Split(fee, charge_nanos - fee)
