"""The audit trail: chained, gap-free, and closed to edits."""

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection, transaction

from marketplace import audit
from marketplace.models import AuditCheck, AuditEvent
from marketplace.tasks import check_audit

pytestmark = pytest.mark.django_db


def test_each_event_is_chained_to_the_one_before() -> None:
    first = audit.record(None, action="site.started", target="site", by="system")
    second = audit.record(None, action="site.stopped", target="site", by="system", details={"after_s": 3})

    assert (first.sequence + 1, second.previous_hash) == (second.sequence, first.hash)
    assert audit.find_broken_link() is None


def test_the_database_refuses_to_change_or_delete_an_event() -> None:
    event = audit.record(None, action="site.started", target="site", by="system")

    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        AuditEvent.objects.filter(pk=event.pk).update(action="nothing.happened")
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        AuditEvent.objects.filter(pk=event.pk).delete()


def tamper_with(statement: str) -> None:
    """Drop the triggers, as somebody with the database's password can, and change the chain."""
    with connection.cursor() as cursor:
        for event in ("update", "delete"):
            on = " ON marketplace_auditevent" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER marketplace_auditevent_no_{event}{on}")
        cursor.execute(statement)


@pytest.mark.parametrize(
    "tamper",
    ["UPDATE marketplace_auditevent SET by = 'nobody' WHERE sequence = 2", "DELETE FROM marketplace_auditevent WHERE sequence = 2"],
)
def test_an_edit_behind_the_databases_back_shows(tamper: str) -> None:
    events = [audit.record(None, action="site.started", target=number, by="system") for number in range(3)]
    tamper_with(tamper)

    broken = audit.find_broken_link()

    assert broken is not None
    assert broken.sequence in {events[1].sequence, events[2].sequence}


def test_the_check_says_once_an_hour_that_the_chain_holds(caplog: pytest.LogCaptureFixture) -> None:
    event = audit.record(None, action="site.started", target="site", by="system")
    check_audit()
    check_audit()

    check = AuditCheck.objects.get()
    assert (check.broken_sequence, check.last_sequence, check.last_hash) == (None, event.sequence, event.hash)
    assert "broken" not in caplog.text


@pytest.mark.parametrize(
    ("tamper", "at"),
    [
        ("UPDATE marketplace_auditevent SET action = 'nothing.happened' WHERE sequence = 2", 2),
        # Nothing in the chain itself shows this: only that the last check saw event 3.
        ("DELETE FROM marketplace_auditevent WHERE sequence = 3", 3),
        ("DELETE FROM marketplace_auditevent", 3),
    ],
)
def test_the_check_finds_what_was_changed_since_and_goes_on_finding_it(tamper: str, at: int, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        audit.record(None, action="site.started", target=number, by="system")
    check_audit()
    tamper_with(tamper)

    for hour in (1, 2):
        AuditCheck.objects.filter(hour__year__gt=2025).update(hour=datetime(2025, 1, 1, hour, tzinfo=UTC))
        caplog.clear()
        check_audit()
        check = audit.find_last_check()
        assert check is not None
        assert check.broken_sequence == at
        assert f"The audit chain is broken at event {at}" in caplog.text
