"""Beat starts with a schedule file that was cut off, as with none."""

import logging
from pathlib import Path

import pytest
from celery import Celery

from marketplace.beat import SturdyScheduler
from marketplace.programs import site_programs


def scheduler(folder: Path) -> SturdyScheduler:
    app = Celery("test", set_as_current=False)
    app.conf.beat_schedule = {"sweep": {"task": "sweep", "schedule": 5.0}}
    return SturdyScheduler(app, schedule_filename=str(folder / "celerybeat"))


def test_when_tasks_last_ran_is_kept_over_a_restart(tmp_path: Path) -> None:
    first = scheduler(tmp_path)
    first.schedule["sweep"].total_run_count = 7
    first.close()

    assert scheduler(tmp_path).schedule["sweep"].total_run_count == 7


@pytest.mark.parametrize("left", [b"", b"\x80\x04garbage"])
def test_a_file_that_was_cut_off_is_begun_anew(tmp_path: Path, left: bytes, caplog: pytest.LogCaptureFixture) -> None:
    scheduler(tmp_path).close()
    values = max(tmp_path.glob("celerybeat*"), key=lambda path: path.stat().st_size)
    values.write_bytes(left)

    with caplog.at_level(logging.CRITICAL):
        begun = scheduler(tmp_path)
    begun.schedule["sweep"].total_run_count = 3
    begun.close()

    assert scheduler(tmp_path).schedule["sweep"].total_run_count == 3


def test_the_site_starts_beat_with_it() -> None:
    (beat,) = (program for program in site_programs(listener_fd=3) if program.name == "beat")

    assert beat.argv[beat.argv.index("--scheduler") + 1] == f"{SturdyScheduler.__module__}:{SturdyScheduler.__name__}"
