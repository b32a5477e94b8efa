import json

from django.test import Client

from billing.ids import public_id
from marketplace.models import ApiKey, ModelVersion, Prediction
from tests.marketplace.jobs import queue_batch, queue_prediction, succeed


def test_a_prediction_is_looked_at_again_until_it_has_ended(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    row = queue_prediction(key, sentiment)
    path = f"/predictions/{public_id('prd', row.pk)}/"

    waiting = member.get(path).content.decode()
    succeed(row)
    done = member.get(path + "state/").content.decode()

    assert "hx-get" in waiting
    assert "hx-get" not in done
    assert "positive" in done


def test_a_prediction_is_cancelled_from_its_page(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    row = queue_prediction(key, sentiment)

    member.post(f"/predictions/{public_id('prd', row.pk)}/cancel/")

    row.refresh_from_db()
    assert row.status == "cancelled"


def test_cancelling_too_late_says_so_and_keeps_the_result(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    row = queue_prediction(key, sentiment)
    succeed(row)

    page = member.post(f"/predictions/{public_id('prd', row.pk)}/cancel/", follow=True).content.decode()

    row.refresh_from_db()
    assert row.status == "succeeded"
    assert "It had ended already." in page


def test_a_batch_shows_how_far_it_is_and_what_failed(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    batch = queue_batch(key, sentiment, rows=4)
    first, second, *_ = batch.predictions.order_by("line")
    succeed(first)
    Prediction.objects.filter(pk=second.pk).update(
        status="failed", error={"code": "invalid_input", "detail": "Send a text."}, ended_at=batch.created_at
    )
    path = f"/batches/{public_id('bat', batch.pk)}/"

    page = member.get(path).content.decode()
    file = member.get(path + "results/")

    assert "2 of 4 rows" in page
    assert "50.0 %" in page
    assert "invalid_input" in page
    assert [json.loads(line)["status"] for line in file.content.splitlines()] == ["succeeded", "failed"]
    assert file["Content-Disposition"].startswith("attachment")


def test_the_lists_show_what_there_is(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    row, batch = queue_prediction(key, sentiment), queue_batch(key, sentiment, rows=2)

    assert public_id("prd", row.pk) in member.get("/predictions/").content.decode()
    assert public_id("bat", batch.pk) in member.get("/batches/").content.decode()
    assert public_id("prd", batch.predictions.all()[0].pk) not in member.get("/predictions/").content.decode()
