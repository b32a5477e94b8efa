"""The audit trail: chained, gap-free, and closed to edits."""

import pytest
from django.db import IntegrityError, connection, transaction

from marketplace import audit
from marketplace.models import AuditEvent

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


@pytest.mark.parametrize(
    "tamper",
    ["UPDATE marketplace_auditevent SET by = 'nobody' WHERE sequence = 2", "DELETE FROM marketplace_auditevent WHERE sequence = 2"],
)
def test_an_edit_behind_the_databases_back_shows(tamper: str) -> None:
    events = [audit.record(None, action="site.started", target=number, by="system") for number in range(3)]
    with connection.cursor() as cursor:
        for event in ("update", "delete"):
            on = " ON marketplace_auditevent" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER marketplace_auditevent_no_{event}{on}")
        cursor.execute(tamper)

    broken = audit.find_broken_link()

    assert broken is not None
    assert broken.sequence in {events[1].sequence, events[2].sequence}
