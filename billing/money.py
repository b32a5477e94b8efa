"""Money as whole nanos, 10^-9 of the currency unit: a token at $0.20 per million is 200 nanos."""

import re
from typing import Final, NewType

from billing.errors import AmountMalformed

Nanos = NewType("Nanos", int)

CURRENCY: Final = "usd"
# Each has hundredths: what is rounded to cents is rounded to fen and euro cents alike.
CURRENCIES: Final = ("usd", "eur", "cny")
NANOS_PER_UNIT: Final = 1_000_000_000
NANOS_PER_CENT: Final = 10_000_000
# Amounts are 64-bit columns. Half their range leaves room for sums in the database.
MAX_AMOUNT: Final = Nanos(2**62)

_AMOUNT: Final = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,9}))?", re.ASCII)


def to_decimal_string(nanos: Nanos | int, *, places: int = 9) -> str:
    """Return an amount in currency units, exactly: 2,200 nanos are "0.000002200".

    Args:
        nanos: The amount; may be negative.
        places: Fewest decimals to show, 0 to 9. Decimals that are not zero are always shown.
    """
    sign = "-" if nanos < 0 else ""
    units, fraction = divmod(abs(nanos), NANOS_PER_UNIT)
    decimals = f"{fraction:09d}"
    shown = decimals[:places] + decimals[places:].rstrip("0")
    return f"{sign}{units}.{shown}" if shown else f"{sign}{units}"


def render_cents(cents: int) -> str:
    """Return whole cents in currency units: 1250 are "12.50"."""
    return to_decimal_string(cents * NANOS_PER_CENT, places=2)


def render_percent(basis_points: int) -> str:
    """Return basis points in percent, without a sign: 825 are "8.25", 1900 "19"."""
    return f"{basis_points / 100:g}"


def parse_amount(text: str) -> Nanos:
    """Return a decimal amount such as "12.50" in nanos, exactly.

    Raises:
        AmountMalformed: it is negative, has more than nine decimals, or is no plain decimal.
    """
    match = _AMOUNT.fullmatch(text.strip()) if len(text) <= 40 else None
    if match is None:
        raise AmountMalformed(text=text[:40])
    nanos = int(match[1]) * NANOS_PER_UNIT + int((match[2] or "").ljust(9, "0"))
    if nanos > MAX_AMOUNT:
        raise AmountMalformed(text=text[:40])
    return Nanos(nanos)


def round_to_cents(nanos: Nanos | int) -> tuple[int, Nanos]:
    """Round half to even; return the cents and what they leave: `nanos == cents * 10**7 + left`.

    Half-even, so that the sum of many roundings drifts neither way. What is left lies within
    half a cent of zero, and may be negative.
    """
    cents, left = divmod(nanos, NANOS_PER_CENT)
    half = NANOS_PER_CENT // 2
    if left > half or (left == half and cents % 2):
        cents, left = cents + 1, left - NANOS_PER_CENT
    return cents, Nanos(left)
