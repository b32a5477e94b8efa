from django.test import Client
from django.utils import timezone

from marketplace.models import ApiKey, ModelVersion, RequestLog
from marketplace.sealed import seal
from marketplace.web.accounts import FIRST_SECRET
from tests.marketplace.web.recorded import record_call

REPLY = '{"prediction": [[{"label": "positive", "score": 0.97}]]}'


def _answer(key: ApiKey, version: ModelVersion) -> RequestLog:
    key.organization.first_call_at = timezone.now()
    key.organization.save(update_fields=["first_call_at"])
    return record_call(key, version, tokens=6, reply=REPLY)


def test_the_page_waits_until_the_call_comes(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    assert "Waiting for your call" in member.get("/first-call/").content.decode()
    assert member.get("/first-call/state/?seen=nothing").status_code == 204  # Nothing new: the page stays as it is.

    _answer(key, sentiment)

    page = member.get("/first-call/state/?seen=nothing").content.decode()
    assert "positive" in page
    assert "$0.0000012" in page
    assert "5.0 ms" in page


def test_the_reply_is_shown_once_and_then_erased(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    call = _answer(key, sentiment)
    member.get("/first-call/state/")

    call.refresh_from_db()
    assert call.reply == ""
    assert "positive" not in member.get("/first-call/").content.decode()


def test_the_secret_is_forgotten_once_the_call_was_seen(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    session = member.session
    session[FIRST_SECRET] = seal("fb_sk_live_shown")
    session.save()
    assert "fb_sk_live_shown" in member.get("/first-call/").content.decode()

    _answer(key, sentiment)
    member.get("/first-call/state/")

    assert FIRST_SECRET not in member.session


def test_a_refused_call_is_told_with_its_code(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    record_call(key, sentiment, status=422, code="invalid_input")

    page = member.get("/first-call/state/?seen=nothing").content.decode()

    assert "/docs/errors/invalid_input" in page
    assert "Waiting for your call" in page


def test_nothing_is_to_be_pasted_once_the_call_has_come(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    assert "Paste this into a terminal" in member.get("/first-call/").content.decode()

    _answer(key, sentiment)

    assert "Paste this into a terminal" not in member.get("/first-call/").content.decode()
