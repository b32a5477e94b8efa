from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.ids import uuid7
from marketplace import predictions
from marketplace.errors import AlreadyEnded, StorageQuotaExceeded
from marketplace.keys import KeySettings, issue_key
from marketplace.models import ApiKey, ModelVersion, Organization, Prediction
from tests.marketplace.jobs import queue_batch, queue_prediction, succeed


@pytest.fixture
def key(organization: Organization) -> ApiKey:
    return issue_key(organization=organization, name="laptop", settings=KeySettings(), by="test")[0]


def claim_all(*, most: int = 100) -> list[Prediction]:
    return predictions.claim(predictions.due(timezone.now()).order_by("created_at"), most=most, max_bytes=10**9)


def test_two_runners_claim_no_row_twice(key: ApiKey, sentiment: ModelVersion) -> None:
    rows = [queue_prediction(key, sentiment) for _ in range(3)]

    first = claim_all(most=2)
    second = claim_all()

    assert [row.pk for row in first] == [row.pk for row in rows[:2]]
    assert [row.pk for row in second] == [rows[2].pk]
    assert claim_all() == []


def test_what_a_dead_runner_claimed_is_due_again_when_its_claim_ends(key: ApiKey, sentiment: ModelVersion) -> None:
    row = queue_prediction(key, sentiment)
    claim_all()

    Prediction.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))

    assert [again.pk for again in claim_all()] == [row.pk]


def test_a_late_runner_neither_fails_nor_queues_what_another_has_claimed_since(key: ApiKey, sentiment: ModelVersion) -> None:
    queue_prediction(key, sentiment)
    late = claim_all()
    Prediction.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    claim_all()

    predictions.put_back(late)

    assert predictions.fail(late, {"code": "model_failed"}) == 0
    assert Prediction.objects.get().status == "running"


def test_a_result_is_kept_once_and_the_input_goes(key: ApiKey, sentiment: ModelVersion) -> None:
    row = queue_prediction(key, sentiment)

    assert [succeed(row, cost_nanos=600), succeed(row, cost_nanos=900)] == [True, False]

    row.refresh_from_db()
    assert (row.status, row.charge_nanos, bytes(row.input)) == ("succeeded", 600, b"")


def test_a_cancelled_prediction_keeps_no_result(key: ApiKey, sentiment: ModelVersion) -> None:
    row = queue_prediction(key, sentiment)
    predictions.cancel_prediction(row)
    predictions.cancel_prediction(row)  # Again changes nothing.

    assert not succeed(row)
    row.refresh_from_db()
    assert (row.status, row.charge_nanos, bytes(row.output)) == ("cancelled", 0, b"")


def test_a_prediction_that_succeeded_cannot_be_cancelled(key: ApiKey, sentiment: ModelVersion) -> None:
    row = queue_prediction(key, sentiment)
    succeed(row)

    with pytest.raises(AlreadyEnded):
        predictions.cancel_prediction(row)

    row.refresh_from_db()
    assert row.status == "succeeded"


def test_the_database_refuses_a_charge_without_a_result(key: ApiKey, sentiment: ModelVersion) -> None:
    row = queue_prediction(key, sentiment)

    with pytest.raises(IntegrityError, match="prediction_charged_with_result"), transaction.atomic():
        Prediction.objects.filter(pk=row.pk).update(charge_nanos=1)


def test_the_storage_quota_counts_inputs_and_outputs_and_keeps_nothing_beyond_it(
    key: ApiKey, sentiment: ModelVersion, settings: Any
) -> None:
    settings.STORED_BYTES_PER_ORGANIZATION = 2_000
    accepted = predictions.Accepted(
        id=uuid7(),
        organization_id=key.organization_id,
        key_id=key.pk,
        version_id=sentiment.pk,
        livemode=True,
        body=b"x" * 1_000,
        endpoint_id=None,
        created_at=timezone.now(),
    )
    predictions.accept(accepted)

    with pytest.raises(StorageQuotaExceeded):
        predictions.accept(predictions.Accepted(**{**vars_of(accepted), "id": uuid7()}))

    assert Prediction.objects.count() == 1


def vars_of(accepted: predictions.Accepted) -> dict[str, Any]:
    return {name: getattr(accepted, name) for name in accepted.__slots__}


def test_a_file_that_is_being_read_counts_against_the_quota(key: ApiKey, sentiment: ModelVersion, settings: Any) -> None:
    settings.STORED_BYTES_PER_ORGANIZATION = 3_000

    with pytest.raises(StorageQuotaExceeded):
        queue_batch(key, sentiment, rows=10)

    assert not key.organization.batches.exists()
    assert not Prediction.objects.exists()


def test_what_ended_days_ago_is_deleted_with_its_batch_and_the_rest_stays(key: ApiKey, sentiment: ModelVersion, settings: Any) -> None:
    old, fresh = queue_prediction(key, sentiment), queue_prediction(key, sentiment)
    succeed(old)
    succeed(fresh)
    waiting = queue_prediction(key, sentiment)
    batch = queue_batch(key, sentiment, rows=2)
    long_ago = timezone.now() - timedelta(days=settings.PREDICTION_DAYS, minutes=1)
    Prediction.objects.filter(pk=old.pk).update(ended_at=long_ago)
    type(batch).objects.filter(pk=batch.pk).update(status="completed", ended_at=long_ago)

    predictions.forget_old()

    assert set(Prediction.objects.values_list("pk", flat=True)) == {fresh.pk, waiting.pk}
    assert not key.organization.batches.exists()
