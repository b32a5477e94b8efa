"""The driver against a gateway that answers as told: what is run again, what fails, what waits, and what is never lost."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from marketplace import runner
from marketplace.inner_door import GatewayUnavailable, Outcome
from marketplace.keys import KeySettings, issue_key
from marketplace.models import ApiKey, Batch, ModelVersion, Organization, Prediction
from tests.marketplace.jobs import answering, queue_batch, queue_prediction, succeed


@pytest.fixture
def key(organization: Organization) -> ApiKey:
    return issue_key(organization=organization, name="laptop", settings=KeySettings(), by="test")[0]


def run(monkeypatch: pytest.MonkeyPatch, gateway: Any) -> int:
    """Run what is due against a gateway."""
    monkeypatch.setattr(runner, "run_rows", gateway)
    return runner.run_due()


def forget_delays() -> None:
    """Let what waits be due now."""
    Prediction.objects.update(not_before=None)
    Batch.objects.update(not_before=timezone.now())


def test_a_batch_runs_to_its_end(key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = queue_batch(key, sentiment, rows=150)

    assert run(monkeypatch, answering()) == 150

    batch.refresh_from_db()
    assert (batch.status, batch.predictions.filter(status="succeeded").count()) == ("completed", 150)


def test_a_gateway_that_is_gone_costs_a_wait_and_no_row(key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    row = queue_prediction(key, sentiment)

    def gone(rows: Sequence[Prediction]) -> list[Outcome]:
        raise GatewayUnavailable

    run(monkeypatch, gone)
    row.refresh_from_db()
    assert (row.status, row.attempts) == ("queued", 0)

    forget_delays()
    run(monkeypatch, answering())
    row.refresh_from_db()
    assert row.status == "succeeded"


def test_an_answer_that_was_lost_after_the_charge_is_found_and_not_made_again(
    key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_batch(key, sentiment, rows=3)

    def killed(rows: Sequence[Prediction]) -> list[Outcome]:
        for row in rows[:2]:
            succeed(row, cost_nanos=600)
        raise GatewayUnavailable

    run(monkeypatch, killed)
    forget_delays()
    assert run(monkeypatch, answering()) == 1

    assert [row.charge_nanos for row in Prediction.objects.all()] == [600] * 3


def test_a_busy_site_is_asked_again_however_often(key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    row = queue_prediction(key, sentiment)
    for _ in range(10):
        run(monkeypatch, answering(then="queue_full"))
        forget_delays()

    row.refresh_from_db()
    assert (row.status, row.attempts) == ("queued", 0)


def test_a_doubtful_failure_is_tried_three_times(key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    row = queue_prediction(key, sentiment)
    sent = 0
    for _ in range(5):
        sent += run(monkeypatch, answering(then="deadline_exceeded"))
        forget_delays()

    row.refresh_from_db()
    assert (sent, row.status, row.error["code"], row.charge_nanos) == (3, "failed", "deadline_exceeded", 0)


def test_a_bad_row_fails_alone(key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = queue_batch(key, sentiment, rows=3)

    run(monkeypatch, answering("invalid_input"))

    batch.refresh_from_db()
    assert batch.status == "completed"
    assert [row.status for row in batch.predictions.order_by("line")] == ["failed", "succeeded", "succeeded"]


def test_a_batch_whose_money_is_used_up_waits_and_goes_on(key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = queue_batch(key, sentiment, rows=100)

    run(monkeypatch, answering(*[""] * 10, then="budget_exceeded"))
    batch.refresh_from_db()
    assert (batch.status, batch.reason) == ("paused", "budget_exceeded")
    assert batch.predictions.filter(status="queued").count() == 90

    assert run(monkeypatch, answering(then="budget_exceeded")) == 0  # It is not asked again at once,
    forget_delays()
    assert run(monkeypatch, answering(then="budget_exceeded")) == 1  # and then with one row.

    forget_delays()
    run(monkeypatch, answering())
    batch.refresh_from_db()
    assert (batch.status, batch.reason, batch.predictions.filter(status="succeeded").count()) == ("completed", "", 100)


def test_a_single_prediction_without_money_fails_and_says_so(key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    row = queue_prediction(key, sentiment)

    run(monkeypatch, answering("budget_exceeded"))

    row.refresh_from_db()
    assert (row.status, row.error["code"]) == ("failed", "budget_exceeded")


def test_a_revoked_key_ends_the_rest_of_its_batch(key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = queue_batch(key, sentiment, rows=200)

    assert run(monkeypatch, answering(*[""] * 5, then="key_revoked")) == 64

    batch.refresh_from_db()
    assert (batch.status, batch.reason) == ("completed", "key_revoked")
    assert batch.predictions.filter(status="failed", error__code="key_revoked").count() == 195


def test_when_live_calls_fill_the_site_rows_are_left_for_later(
    key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = queue_batch(key, sentiment, rows=200)

    assert run(monkeypatch, answering(then="waiting")) == 64

    assert batch.predictions.filter(status="queued", attempts=0).count() == 200


def test_a_prediction_waits_for_a_day_at_most(key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    row = queue_prediction(key, sentiment, at=timezone.now() - timedelta(hours=settings.PREDICTION_HOURS, minutes=1))
    batch = queue_batch(key, sentiment, rows=2)
    Batch.objects.update(created_at=row.created_at)

    assert run(monkeypatch, answering()) == 0

    row.refresh_from_db()
    batch.refresh_from_db()
    assert (row.status, row.error["code"], batch.status) == ("failed", "prediction_expired", "completed")


def test_small_batches_do_not_wait_for_large_ones(key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    queue_batch(key, sentiment, rows=500)
    small = queue_batch(key, sentiment, rows=10)
    ran: list[Any] = []

    def watch(rows: Sequence[Prediction]) -> list[Outcome]:
        ran.append({row.batch_id for row in rows})
        return answering()(rows)

    run(monkeypatch, watch)

    assert small.pk in ran[0]
    assert small.pk not in ran[1]


def test_single_predictions_go_before_batches(key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    queue_batch(key, sentiment, rows=5)
    single = queue_prediction(key, sentiment)
    ran: list[Any] = []

    def watch(rows: Sequence[Prediction]) -> list[Outcome]:
        ran.append([row.pk for row in rows])
        return answering()(rows)

    run(monkeypatch, watch)

    assert ran[0] == [single.pk]


def test_a_batch_whose_creation_was_broken_off_is_deleted(key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = queue_batch(key, sentiment, rows=5)
    Batch.objects.filter(pk=batch.pk).update(status="creating", created_at=timezone.now() - timedelta(hours=2))

    assert run(monkeypatch, answering()) == 0

    assert not Batch.objects.exists()
    assert not Prediction.objects.exists()
