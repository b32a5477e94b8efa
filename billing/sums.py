"""Sums over rows, as whole numbers: PostgreSQL's sums of integers are numeric, and there is none over no rows."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from django.db.models import QuerySet, Sum


def total_of(rows: QuerySet[Any], column: str) -> int:
    """Return the sum of a column, 0 over no rows."""
    return int(rows.aggregate(total=Sum(column))["total"] or 0)


def sums_of(rows: Iterable[tuple[Any, ...]]) -> dict[Any, int]:
    """Sum rows of (key..., amount) by key: the key itself where it is one column, else a tuple."""
    sums: dict[Any, int] = defaultdict(int)
    for *key, amount in rows:
        sums[key[0] if len(key) == 1 else tuple(key)] += int(amount or 0)
    return sums
