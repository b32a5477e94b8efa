from datetime import UTC, datetime, timedelta, timezone

from billing.periods import render_moment


def test_a_moment_is_written_in_utc_whatever_its_offset() -> None:
    there = datetime(2026, 11, 23, 2, 0, tzinfo=timezone(timedelta(hours=8)))

    assert render_moment(there) == "2026-11-22T18:00:00Z"
    assert render_moment(datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)) == "2026-01-02T03:04:05.000600Z"
    assert render_moment(datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC), timespec="milliseconds") == "2026-01-02T03:04:05.000Z"
