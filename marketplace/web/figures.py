"""Where hours, days and months begin, for sums over time."""

from datetime import datetime


def hour_start(moment: datetime) -> datetime:
    """Return the first moment of an hour."""
    return moment.replace(minute=0, second=0, microsecond=0)


def day_start(moment: datetime) -> datetime:
    """Return the first moment of a UTC day."""
    return hour_start(moment).replace(hour=0)


def month_start(moment: datetime) -> datetime:
    """Return the first moment of a UTC month."""
    return day_start(moment).replace(day=1)
