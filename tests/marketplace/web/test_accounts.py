import re
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.cache import cache
from django.test import Client

from billing.ledger import balance
from billing.models import CreditGrant
from marketplace.models import ApiKey, AuditEvent, Organization, User
from marketplace.sealed import unseal
from marketplace.web.accounts import FIRST_SECRET

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _mail_in_memory(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"


def _sign_up(client: Client, address: str = "grace@example.com") -> str:
    """Sign up; return the path of the link in the mail."""
    client.post("/accounts/signup/", {"email": address, "password1": PASSWORD})
    found = re.search(r"https?://[^/]+(/accounts/confirm-email/\S+)", str(mail.outbox[-1].body))
    assert found
    return found[1]


@pytest.mark.django_db
def test_signing_up_leads_to_the_first_call_with_credit_and_a_key(client: Client) -> None:
    link = _sign_up(client)

    reply = client.post(link)

    organization = Organization.objects.get(members__email="grace@example.com")
    assert (reply.status_code, reply["Location"]) == (302, "/first-call/")
    assert balance(organization.account).available == 5 * 10**9
    assert [key.name for key in organization.keys.all()] == ["First key"]
    assert unseal(client.session[FIRST_SECRET]) in client.get("/first-call/").content.decode()


@pytest.mark.django_db
def test_nothing_is_given_before_the_address_is_confirmed(client: Client) -> None:
    link = _sign_up(client)
    client.get(link)  # Mail scanners open links.

    assert not Organization.objects.exists()
    assert client.get("/dashboard/").status_code == 302


@pytest.mark.django_db
def test_confirming_elsewhere_gives_the_key_at_the_first_sign_in(client: Client) -> None:
    link = _sign_up(client)
    Client().post(link)

    elsewhere = Client()
    reply = elsewhere.post("/accounts/login/", {"login": "grace@example.com", "password": PASSWORD})

    assert reply["Location"] == "/first-call/"
    assert ApiKey.objects.count() == 1


@pytest.mark.django_db
def test_signing_in_again_makes_no_second_key(client: Client) -> None:
    client.post(_sign_up(client))
    ApiKey.objects.update(revoked_at="2026-01-01T00:00:00Z")

    reply = Client().post("/accounts/login/", {"login": "grace@example.com", "password": PASSWORD})

    assert reply["Location"] == "/dashboard/"
    assert ApiKey.objects.count() == 1


@pytest.mark.django_db
def test_a_welcome_that_failed_is_made_up_for_at_the_next_sign_in(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        message = "The disk is full."
        raise OSError(message)

    link = _sign_up(client)
    with monkeypatch.context() as broken:
        broken.setattr("marketplace.tenants.found_organization", fail)
        with pytest.raises(OSError, match="full"):
            client.post(link)
    assert not Organization.objects.exists()

    reply = Client().post("/accounts/login/", {"login": "grace@example.com", "password": PASSWORD})

    assert reply["Location"] == "/first-call/"
    assert balance(Organization.objects.get().account).available == 5 * 10**9


@pytest.mark.django_db
def test_an_address_given_away_signs_up_without_a_second_credit(client: Client) -> None:
    client.post(_sign_up(client))
    User.objects.update(email="hopper@example.com")
    EmailAddress.objects.update(email="hopper@example.com")
    cache.clear()  # An address gets a mail every three minutes.
    next_owner = Client()

    reply = next_owner.post(_sign_up(next_owner))

    organization = Organization.objects.get(members__email="grace@example.com")
    assert (reply.status_code, reply["Location"]) == (302, "/first-call/")
    assert balance(organization.account).granted == 0
    assert AuditEvent.objects.filter(organization=organization, action="credit.already_given").count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["grace+2@example.com", "Grace+2+3@Example.com"])
def test_a_plus_tag_makes_no_new_mailbox(client: Client, address: str) -> None:
    client.post(_sign_up(client))
    again = Client()

    again.post(_sign_up(again, address))

    assert Organization.objects.count() == 2
    assert [grant.amount_nanos for grant in CreditGrant.objects.all()] == [5 * 10**9]


@pytest.mark.django_db
def test_further_addresses_of_one_person_bring_no_credit(client: Client) -> None:
    client.post(_sign_up(client))
    for name in ("hopper", "amazing"):
        client.post("/accounts/email/", {"action_add": "", "email": f"{name}@example.com"})
        link = re.search(r"https?://[^/]+(/accounts/confirm-email/\S+)", str(mail.outbox[-1].body))
        assert link
        client.post(link[1])
        client.post("/accounts/email/", {"action_primary": "", "email": f"{name}@example.com"})

    assert User.objects.get().email == "amazing@example.com"
    assert (CreditGrant.objects.count(), Organization.objects.count()) == (1, 1)


@pytest.mark.django_db
def test_the_longest_address_signs_up(client: Client) -> None:
    address = f"{'a' * 60}@{'.'.join(['b' * 60] * 3)}.example"

    client.post(_sign_up(client, address))

    assert len(CreditGrant.objects.get().reference) == 190


@pytest.mark.django_db
def test_an_operator_gets_no_first_key(client: Client, operator: User) -> None:
    EmailAddress.objects.create(user=operator, email=operator.email, verified=True, primary=True)

    reply = client.post("/accounts/login/", {"login": operator.email, "password": PASSWORD})

    assert reply["Location"] == "/dashboard/"
    assert not ApiKey.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["signup", "login", "password/reset", "password/reset/done", "confirm-email", "inactive"])
def test_the_pages_of_the_entrance_answer(client: Client, path: str) -> None:
    assert client.get(f"/accounts/{path}/").status_code == 200


def test_a_signed_in_person_can_change_the_password(member: Client) -> None:
    assert member.get("/accounts/password/change/").status_code == 200


@pytest.mark.django_db
def test_a_taken_address_looks_like_a_free_one(client: Client, user: User) -> None:
    taken = client.post("/accounts/signup/", {"email": user.email, "password1": PASSWORD})
    free = client.post("/accounts/signup/", {"email": "free@example.com", "password1": PASSWORD})

    assert (taken.status_code, taken["Location"]) == (free.status_code, free["Location"])
