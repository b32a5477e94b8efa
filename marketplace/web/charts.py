"""Bar charts as numbers that templates draw: pure, no clock, no database.

The SVG holds bars only and stretches to its box; labels are text beside it, so they stay
legible on a phone and need no script (ADR: charts as server-rendered SVG).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_HEIGHT: Final = 100.0  # Of the viewBox; a bar's slot is 10 wide.
_SLOT: Final = 10.0
_GAP: Final = 2.0
_ROUND_TENTHS: Final = (10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100)  # What a scale may end at, in tenths.
_LEAST: Final = 1.5  # A value above zero is never invisible.


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket of time: how it is named on the axis and in full, and its value."""

    tick: str
    title: str
    value: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One bucket as it is drawn."""

    x: str
    width: str
    y: str
    height: str
    slot_x: str
    says: str
    point: Point


@dataclass(frozen=True, slots=True)
class Chart:
    """A bar chart: geometry in viewBox units, labels as text."""

    width: str
    bars: Sequence[Bar]
    y_labels: Sequence[str]  # Top to bottom.
    x_labels: Sequence[str]  # Left to right.
    total: str
    is_empty: bool


def bar_chart(points: Sequence[Point], *, write: Callable[[int], str]) -> Chart:
    """Lay out a bar chart.

    Args:
        points: Ascending in time, evenly spaced, at least one.
        write: How a value is written, with its unit.

    Returns:
        Bars of a chart whose top is a round number at or above the largest value.
    """
    top = round_up(max((point.value for point in points), default=0))
    bars = [_bar(index, point, top, write) for index, point in enumerate(points)]
    return Chart(
        width=_text(len(points) * _SLOT),
        bars=bars,
        y_labels=[write(top), write(top // 2), write(0)],
        x_labels=_ticks(points),
        total=write(sum(point.value for point in points)),
        is_empty=not any(point.value for point in points),
    )


def round_up(value: int) -> int:
    """Return the smallest round number >= value that is even, so that half of it is whole."""
    power = 1
    while True:
        for tenths in _ROUND_TENTHS:
            top, rest = divmod(tenths * power, 10)
            if top >= value and not rest and top % 2 == 0:
                return top
        power *= 10


def _bar(index: int, point: Point, top: int, write: Callable[[int], str]) -> Bar:
    height = max(point.value / top * _HEIGHT, _LEAST) if point.value else 0.0
    return Bar(
        x=_text(index * _SLOT + _GAP / 2),
        width=_text(_SLOT - _GAP),
        y=_text(_HEIGHT - height),
        height=_text(height),
        slot_x=_text(index * _SLOT),
        says=f"{point.title}: {write(point.value)}",
        point=point,
    )


def _ticks(points: Sequence[Point]) -> list[str]:
    """The first, three between and the last: as many as fit a phone."""
    if len(points) < 5:
        return [point.tick for point in points]
    last = len(points) - 1
    return [points[round(last * quarter / 4)].tick for quarter in range(5)]


def _text(value: float) -> str:
    """Write a number for SVG, whatever the language of the page: "12.5"."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
