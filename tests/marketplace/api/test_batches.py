import json
from typing import Any

import pytest
from django.test import Client

from billing.models import Account
from marketplace.models import ApiKey, Batch, CatalogueModel, ModelVersion, Organization, Prediction
from tests.marketplace.jobs import queue_batch, succeed

PATH = "/v1/batches?model=farebox/sentiment"


def lines(*rows: Any) -> bytes:
    return b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)


def test_a_file_becomes_rows_in_its_order(api: Any, sentiment: ModelVersion) -> None:
    reply = api.send("POST", PATH, lines({"custom_id": "a", "input_data": "one"}, b"", {"input_data": "two", "parameters": {"top_k": 1}}))

    batch = Batch.objects.get()
    assert (reply.status_code, reply.headers["Location"]) == (201, f"/v1/batches/{reply.json()['id']}")
    assert (reply.json()["status"], reply.json()["rows"]["total"], batch.version) == ("queued", 2, sentiment)
    kept = list(batch.predictions.order_by("line").values_list("line", "custom_id", "input"))
    assert [(line, name, json.loads(bytes(body))) for line, name, body in kept] == [
        (1, "a", {"input_data": "one"}),
        (3, "", {"input_data": "two", "parameters": {"top_k": 1}}),
    ]


def test_a_multipart_file_is_the_same(live_key: str, sentiment: ModelVersion) -> None:
    from django.core.files.uploadedfile import SimpleUploadedFile

    file = SimpleUploadedFile("rows.jsonl", lines({"input_data": "one"}, {"input_data": "two"}))
    reply = Client().post("/v1/batches", {"model": "farebox/sentiment@1", "file": file}, headers={"authorization": f"Bearer {live_key}"})

    assert (reply.status_code, reply.json()["rows"]["total"]) == (201, 2)


def test_every_bad_line_is_named_and_nothing_is_kept(api: Any, sentiment: ModelVersion) -> None:
    content = lines({"input_data": "fine"}, b"{", {"text": "x"}, {"input_data": "a", "custom_id": 5}, [1], {"input_data": 1, "extra": 2})

    reply = api.send("POST", PATH, content)

    assert (reply.status_code, reply.json()["code"]) == (422, "batch_invalid")
    assert [fault["param"] for fault in reply.json()["errors"]] == [f"line {n}" for n in (2, 3, 4, 5, 6)]
    assert not Batch.objects.exists()
    assert not Prediction.objects.exists()


def test_a_name_given_twice_is_refused(api: Any, sentiment: ModelVersion) -> None:
    reply = api.send("POST", PATH, lines(*[{"custom_id": "a", "input_data": "x"}] * 2))

    assert (reply.json()["code"], reply.json()["errors"][0]["param"]) == ("batch_invalid", "line 2")
    assert not Batch.objects.exists()


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe"])
def test_what_is_no_file_of_lines_is_refused(api: Any, sentiment: ModelVersion, content: bytes) -> None:
    reply = api.send("POST", PATH, content)

    assert reply.status_code in {400, 422}
    assert not Batch.objects.exists()


def test_too_many_lines_or_bytes_are_refused(api: Any, sentiment: ModelVersion, settings: Any) -> None:
    settings.MAX_BATCH_ROWS, settings.MAX_BATCH_BYTES = 2, 2_000

    many = api.send("POST", PATH, lines(*[{"input_data": "x"}] * 3))
    large = api.send("POST", PATH, lines({"input_data": "x" * 2_000}))

    assert (many.json()["code"], large.json()["code"]) == ("batch_invalid", "body_too_large")
    assert not Batch.objects.exists()


@pytest.mark.parametrize("name", ["farebox/absent", "farebox/sentiment@9", "farebox/sentiment@x", "sentiment", "other/secret"])
def test_a_model_that_is_not_there_or_not_theirs_takes_no_batch(
    api: Any, sentiment: ModelVersion, other_organization: Organization, name: str
) -> None:
    secret = CatalogueModel.objects.create(owner=other_organization, name="secret", title="Secret", summary="", task="x")
    ModelVersion.objects.create(model=secret, number=1, state="live", folder="f", digest="0" * 64, size_bytes=1)

    reply = api.send("POST", f"/v1/batches?model={name}", lines({"input_data": "x"}))

    assert reply.status_code in {400, 404}
    assert not Batch.objects.exists()


def test_a_model_off_the_keys_list_takes_no_batch(make_api: Any, sentiment: ModelVersion) -> None:
    reply = make_api(allowed_models=["farebox/other"]).send("POST", PATH, lines({"input_data": "x"}))

    assert (reply.status_code, reply.json()["code"]) == (404, "model_not_found")
    assert not Batch.objects.exists()


def test_results_are_lines_in_the_files_order_and_say_where_to_go_on(
    api: Any, key: ApiKey, sentiment: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = queue_batch(key, sentiment, rows=4)
    first, second, third, _ = batch.predictions.order_by("line")
    for row in (third, first):
        succeed(row)
    Prediction.objects.filter(pk=second.pk).update(
        status="failed", error={"code": "invalid_input", "detail": "No."}, ended_at=batch.created_at
    )
    path = api.get("/v1/batches").json()["data"][0]["id"]

    whole = api.get(f"/v1/batches/{path}/results")
    monkeypatch.setattr("marketplace.batches.RESULT_BYTES", 10)
    piece = api.get(f"/v1/batches/{path}/results", {"after": "1"})

    rows = [json.loads(line) for line in whole.content.splitlines()]
    assert [(row["line"], row["status"]) for row in rows] == [(1, "succeeded"), (2, "failed"), (3, "succeeded")]
    assert (rows[0]["usage"]["cost"], rows[1]["error"]["code"]) == ("0.000000600", "invalid_input")
    assert "Link" not in whole.headers
    assert [json.loads(line)["line"] for line in piece.content.splitlines()] == [2]
    assert piece.headers["Link"] == f'</v1/batches/{path}/results?after=2>; rel="next"'


def test_a_cancelled_batch_keeps_what_had_succeeded(api: Any, key: ApiKey, sentiment: ModelVersion) -> None:
    batch = queue_batch(key, sentiment, rows=3)
    first = batch.predictions.order_by("line")[0]
    succeed(first)
    path = api.get("/v1/batches").json()["data"][0]["id"]

    shown = api.post(f"/v1/batches/{path}/cancel").json()
    again = api.post(f"/v1/batches/{path}/cancel").json()

    assert shown["rows"] == {"total": 3, "succeeded": 1, "failed": 0, "cancelled": 2}
    assert again == shown
    assert not any(bytes(row.input) for row in batch.predictions.all())


def test_a_batch_names_the_accounts_currency(api: Any, organization: Organization, sentiment: ModelVersion) -> None:
    Account.objects.filter(pk=organization.account_id).update(currency="cny")

    assert api.send("POST", PATH, lines({"input_data": "one"})).json()["currency"] == "cny"
