"""The budgets that paid for an event, as its one column names them: "3,17" paid money, "42u" paid units."""

from collections.abc import Iterable

_UNITS = "u"


def render_payers(budget_ids: Iterable[int], quota_ids: Iterable[int]) -> str:
    """Return the column's text."""
    return ",".join([*map(str, budget_ids), *(f"{budget_id}{_UNITS}" for budget_id in quota_ids)])


def parse_payers(text: str) -> list[tuple[int, bool]]:
    """Return each budget's id, and whether it paid in units."""
    return [(int(part.removesuffix(_UNITS)), part.endswith(_UNITS)) for part in text.split(",") if part]
