"""Billing periods: calendar days and months in UTC, half-open."""

from datetime import UTC, datetime, timedelta
from typing import Final

# Where budgets that never start anew begin.
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def month_of(moment: datetime) -> tuple[datetime, datetime]:
    """Return the month that a moment lies in: its first moment, and the first of the next."""
    first = moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    is_december = first.month == 12
    return first, first.replace(year=first.year + is_december, month=1 if is_december else first.month + 1)


def day_of(moment: datetime) -> tuple[datetime, datetime]:
    """Return the day that a moment lies in: its first moment, and the first of the next."""
    first = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return first, first + timedelta(days=1)


def period_of(interval: str, moment: datetime) -> tuple[datetime, datetime | None]:
    """Return the period of a budget that a moment lies in; "total" is one without an end."""
    if interval == "month":
        return month_of(moment)
    return day_of(moment) if interval == "day" else (EPOCH, None)


def render_moment(moment: datetime, *, timespec: str = "auto") -> str:
    """Return a moment as RFC 3339 in UTC: "2026-11-22T18:00:00Z", to the microsecond where it has any."""
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def hour_of(moment: datetime) -> datetime:
    """Return the first moment of a moment's hour in UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
