"""What the database tells of the whole site."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from billing.models import BooksRun, OutboxRow
from marketplace.models import AuditCheck, Organization, WebhookDelivery, WebhookEndpoint, WebhookMessage
from marketplace.site_figures import outbox_age_s, read_site_figures

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.django_db
def test_what_nobody_has_found_out_is_left_out() -> None:
    assert {name: value for name, (_, value) in read_site_figures().items()} == {"farebox_outbox_age_seconds": 0.0}

    BooksRun.objects.create(hour=NOW, started_at=NOW)  # It runs: it has found nothing out yet.
    assert "farebox_books_difference_nanos" not in read_site_figures()


@pytest.mark.django_db
def test_the_last_checks_are_told() -> None:
    for hour, nanos in ((1, 0), (2, 77)):
        moment = NOW.replace(hour=hour)
        BooksRun.objects.create(
            hour=moment,
            started_at=moment,
            finished_at=moment,
            differences=int(nanos > 0),
            difference_nanos=nanos,
            first="x" if nanos else "",
        )
    AuditCheck.objects.create(hour=NOW, started_at=NOW, finished_at=NOW, broken_sequence=3, words="gone")

    figures = {name: value for name, (_, value) in read_site_figures().items()}

    assert (figures["farebox_books_difference_nanos"], figures["farebox_audit_chain_broken"]) == (77, 1)
    assert abs(figures["farebox_books_age_seconds"] - (timezone.now() - NOW.replace(hour=2)).total_seconds()) < 5


def owe(organization: Organization, *, due_s_ago: float, subject: str, state: str = "waiting") -> None:
    OutboxRow.objects.create(
        account=organization.account,
        kind="refund.create",
        subject=subject,
        due_at=NOW - timedelta(seconds=due_s_ago),
        state=state,
        finished_at=None if state == "waiting" else NOW,
    )


def test_the_outbox_is_as_late_as_its_oldest_row_that_is_due(organization: Organization) -> None:
    owe(organization, due_s_ago=-60, subject="later")
    assert outbox_age_s(NOW) == 0

    owe(organization, due_s_ago=9000, subject="done", state="done")
    owe(organization, due_s_ago=7, subject="due")
    assert outbox_age_s(NOW) == 7

    endpoint = WebhookEndpoint.objects.create(organization=organization, url="https://example.com", secret="sealed")
    message = WebhookMessage.objects.create(organization=organization, type="x", body="{}")
    delivery = WebhookDelivery.objects.create(message=message, endpoint=endpoint, due_at=NOW - timedelta(seconds=40))
    assert outbox_age_s(NOW) == 40

    WebhookDelivery.objects.filter(pk=delivery.pk).update(state="delivered", ended_at=NOW)
    assert outbox_age_s(NOW) == 7
