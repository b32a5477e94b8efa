import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.sessions.models import Session
from django.core import mail
from django.test import Client

from billing.ids import public_id
from marketplace.credentials import digest
from marketplace.models import ApiKey, ModelVersion
from marketplace.sealed import seal, unseal

PASSWORD = "correct horse battery"


@pytest.mark.parametrize("text", ["fb_sk_live_shown", "", "密钥"])
def test_what_was_sealed_is_unsealed(text: str) -> None:
    assert unseal(seal(text)) == text
    assert not text or text not in seal(text)


def test_another_secret_key_opens_nothing_and_a_former_one_still_does(settings: Any) -> None:
    sealed, former = seal("fb_sk_live_shown"), settings.SECRET_KEY

    settings.SECRET_KEY = "another"
    assert unseal(sealed) == ""

    settings.SECRET_KEY_FALLBACKS = [former]
    assert unseal(sealed) == "fb_sk_live_shown"


@pytest.mark.parametrize("sealed", ["", "fb_sk_live_shown", "é", "gAAAAA"])
def test_what_nobody_sealed_is_as_good_as_lost(sealed: str) -> None:
    assert unseal(sealed) == ""


def _everything_stored() -> Iterator[tuple[str, str]]:
    """Yield each row of each table as text, sessions decoded as Django does without verifying who asks."""
    for model in apps.get_models():
        for row in model._default_manager.values():
            yield model.__name__, repr(row)
    for session in Session.objects.all():
        yield "decoded session", repr(session.get_decoded())


@pytest.mark.django_db
def test_no_secret_lies_readable_in_tables_logs_or_mails(
    client: Client, sentiment: ModelVersion, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    caplog.set_level(logging.DEBUG)
    stranger = Client()
    # All four kinds wait in sessions, none is shown yet but those of the playground.
    free = stranger.post("/playground/key/", {"model": "farebox/sentiment"}).json()["key"]
    client.post("/accounts/signup/", {"email": "grace@example.com", "password1": PASSWORD})
    link = re.search(r"https?://[^/]+(/accounts/confirm-email/\S+)", str(mail.outbox[-1].body))
    assert link
    client.post(link[1])
    metered = client.post("/playground/key/", {"model": "farebox/sentiment"}).json()["key"]
    made = client.post("/keys/new/", {"name": "worker", "mode": "live", "kind": "sk"})["Location"]

    stored = list(_everything_stored())

    # Read only now: each page shows its own.
    first = client.get("/first-call/").context["secret"]
    revealed = client.get(made).context["secret"]
    secrets = {free, metered, first, revealed}
    assert {digest(secret) for secret in secrets} == set(ApiKey.objects.values_list("digest", flat=True))
    assert sum(kind == "decoded session" for kind, _ in stored) == 2
    assert [kind for kind, text in stored if any(secret in text or secret[-20:] in text for secret in secrets)] == []
    assert not any(secret in caplog.text for secret in secrets)
    assert not any(secret in str(message.message()) for message in mail.outbox for secret in secrets)


@pytest.mark.django_db
def test_a_rotated_keys_secret_lies_sealed_too(member: Client, key: ApiKey) -> None:
    page = member.post(f"/keys/{public_id('key', key.pk)}/rotate/", {"grace": "0"})["Location"]
    stored = list(_everything_stored())

    secret = member.get(page).context["secret"]
    assert digest(secret) == ApiKey.objects.exclude(pk=key.pk).get().digest
    assert [kind for kind, text in stored if secret in text] == []
