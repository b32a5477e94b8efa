from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.ids import public_id
from marketplace.keys import KeySettings, issue_key
from marketplace.models import ApiKey, CatalogueModel, ModelVersion, RequestLog
from marketplace.web.requests import stages_of
from tests.marketplace.web.recorded import record_call


def _shown(client: Client, query: str = "") -> list[RequestLog]:
    return list(client.get(f"/requests/{query}").context["rows"])


def test_the_log_is_paged_without_gaps_or_repeats(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    moment = timezone.now()  # All in one microsecond: the id decides.
    calls = [record_call(key, sentiment, at=moment) for _ in range(120)]

    pages, query = [], ""
    while True:
        context = member.get(f"/requests/{query}").context
        pages.append(list(context["rows"]))
        query = context["older"]
        if not query:
            break

    assert [len(page) for page in pages] == [50, 50, 20]
    assert {call.pk for page in pages for call in page} == {call.pk for call in calls}


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ("?status=answered", [""]),
        ("?status=refused", ["invalid_input"]),
        ("?status=failed", ["queue_full"]),
        ("?mode=test", []),
        ("?model=farebox/sentiment", ["", "invalid_input", "queue_full"]),
        ("?model=farebox/none", []),
        ("?status=nonsense", []),
    ],
)
def test_filters_choose(member: Client, key: ApiKey, sentiment: ModelVersion, query: str, codes: list[str]) -> None:
    record_call(key, sentiment)
    record_call(key, sentiment, status=422, code="invalid_input")
    record_call(key, sentiment, status=503, code="queue_full")

    assert sorted(call.code for call in _shown(member, query)) == codes


def test_the_log_of_one_key(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    other, _ = issue_key(organization=key.organization, name="ci", settings=KeySettings(), by="test")
    record_call(key, sentiment)
    record_call(other, sentiment)

    assert [call.key.name for call in _shown(member, f"?key={public_id('key', other.pk)}")] == ["ci"]


def test_a_foreign_key_or_cursor_is_absent(member: Client, foreign_key: ApiKey, sentiment: ModelVersion) -> None:
    call = record_call(foreign_key, sentiment)

    assert member.get(f"/requests/?key={public_id('key', foreign_key.pk)}").status_code == 404
    assert member.get(f"/requests/?before={public_id('req', call.pk)}").status_code == 404
    assert member.get("/requests/?before=nonsense").status_code == 404


def test_a_call_shows_where_its_time_went(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    call = record_call(key, sentiment, tokens=12, at=timezone.now() - timedelta(minutes=1))

    page = member.get(f"/requests/{public_id('req', call.pk)}/").content.decode()

    assert "12 tokens" in page
    assert "$0.0000024" in page
    assert [(stage.name, stage.x, stage.width) for stage in stages_of(call)] == [
        ("auth", 0.0, 5.0),
        ("limit", 5.0, 10.0),
        ("queue", 15.0, 20.0),
        ("infer", 35.0, 60.0),
        ("rest", 95.0, 5.0),
    ]
    assert page.count("<rect class=") == 5


def test_a_refused_call_has_one_stage(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    call = record_call(key, sentiment, status=402, code="budget_exceeded")

    page = member.get(f"/requests/{public_id('req', call.pk)}/").content.decode()

    assert [(stage.name, stage.width) for stage in stages_of(call)] == [("rest", 100.0)]
    assert "Until it was refused" in page
    assert "Server-Timing" not in page  # It was not charged, so nothing went to the disk for it.


def test_the_log_can_be_filtered_by_models_called_and_by_those_that_only_refused(
    member: Client, key: ApiKey, sentiment: ModelVersion
) -> None:
    record_call(key, sentiment).delete()  # Pruned, or older than the newest thousand.
    other = CatalogueModel.objects.create(owner=sentiment.model.owner, name="other", title="Other", summary="", task="t", public=True)
    version = ModelVersion.objects.create(model=other, number=1, folder="x", digest="0" * 64, size_bytes=1)
    call = record_call(key, sentiment, status=503, code="queue_full")
    RequestLog.objects.filter(pk=call.pk).update(version=version)

    assert member.get("/requests/").context["paths"] == ["farebox/other", "farebox/sentiment"]


@pytest.mark.parametrize("status", ["refused", "failed"])
def test_refusals_are_found_by_their_own_index(member: Client, status: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        member.get(f"/requests/?status={status}")
    (statement,) = [query["sql"] for query in queries if '"marketplace_requestlog"."status" >= ' in query["sql"]]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("EXPLAIN QUERY PLAN " + statement)
        else:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("EXPLAIN " + statement)
        plan = str(cursor.fetchall())

    assert "request_refused" in plan
